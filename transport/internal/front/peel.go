// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package front

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/proxy"
	"github.com/noctule/noctule/transport/websocket"
)

// First bytes that tell protocols apart.
const (
	firstMQTT = 0x10 // CONNECT
	firstTLS  = 0x16 // a record with a handshake
	firstHTTP = 'G'  // GET
)

// MaxHead is the most that a Peel wants to see at once.
const MaxHead = max(proxy.MaxHeader, websocket.MaxRequest)

var defaultPaths = []string{"/", "/mqtt"}

// Next is what a Peel wants to be done.
type Next byte

const (
	More     Next = iota // read more, and step again with all that is not used
	StartTLS             // make the TLS handshake on what is not used, and step again with what comes out of it
	Done                 // MQTT is next, after Reply was sent if there is one; in frames if Info.WebSocket says so
)

// A Peel takes the layers off a new connection, until MQTT is next.
//
//	PROXY header --> TLS? --StartTLS--> MQTT or WebSocket? --> request --> Done
type Peel struct {
	Books   *Books
	Options *transport.ListenerOptions
	Info    *transport.Info // is completed on the way
	Counted netip.Addr      // with which the connection is counted; for Books.Forget
	Reply   []byte          // to be sent when Done; with an error it says no to the client

	past stage // that are done with
}

// stage is a layer that may be there.
type stage byte

const (
	pastNothing stage = iota
	pastProxy
	pastTLS
)

// Step looks at b, all that has been read and not been used, and says how much of it is used now and what is next. An error
// refuses the connection; see CauseOf.
func (p *Peel) Step(b []byte) (used int, next Next, err error) {
	if p.past == pastNothing {
		if p.Options.Proxy != transport.ProxyOff {
			if used, next, err = p.proxyHeader(b); err != nil || next == More {
				return 0, next, err
			}
			b = b[used:]
		}
		p.past = pastProxy
	}
	if p.past == pastProxy {
		kind := p.Options.Protocol
		if kind == transport.Sniff {
			if len(b) == 0 {
				return used, More, nil
			}
			if b[0] == firstTLS {
				kind = transport.TLS
			}
		}
		p.past = pastTLS
		if kind == transport.TLS || kind == transport.WSS {
			if p.Options.TLS == nil {
				return used, 0, Refuse(transport.CauseNoTLS, errors.New("the client speaks TLS and the listener has no certificate"))
			}
			return used, StartTLS, nil
		}
	}
	n, next, err := p.inner(b)
	return used + n, next, err
}

// inner tells MQTT and WebSocket apart.
func (p *Peel) inner(b []byte) (used int, next Next, err error) {
	switch p.Options.Protocol {
	case transport.MQTT, transport.TLS:
		return 0, Done, nil
	case transport.WS, transport.WSS:
		return p.upgrade(b)
	}
	if len(b) == 0 {
		return 0, More, nil
	}
	switch b[0] {
	case firstMQTT:
		return 0, Done, nil
	case firstHTTP:
		return p.upgrade(b)
	}
	return 0, 0, Refuse(transport.CauseUnknownProtocol, fmt.Errorf("first byte %#02x", b[0]))
}

// proxyHeader takes a PROXY header off. More means that there is more of it to come.
func (p *Peel) proxyHeader(b []byte) (used int, next Next, err error) {
	if len(b) == 0 {
		return 0, More, nil
	}
	peerTrusted := trusted(p.Options, p.Info.Peer)
	if b[0] != proxy.FirstV1 && b[0] != proxy.FirstV2 {
		if p.Options.Proxy == transport.ProxyRequired {
			return 0, 0, Refuse(transport.CauseProxyMissing, nil)
		}
		if !peerTrusted {
			return 0, Done, nil // counted when it was accepted
		}
		return 0, Done, p.count()
	}
	if !peerTrusted {
		return 0, 0, Refuse(transport.CauseProxyUntrusted, nil)
	}
	header, size, err := proxy.Parse(b)
	if errors.Is(err, proxy.ErrShort) {
		return 0, More, nil
	}
	if err != nil {
		return 0, 0, Refuse(transport.CauseProxyHeader, err)
	}
	p.Info.LocalPeer = false // who hides behind a proxy is never taken for a local user
	if !header.Forwarded {
		return size, Done, nil
	}
	p.Info.Remote = header.Source
	p.Info.Local = header.Destination
	return size, Done, p.count()
}

// count counts the connection with its remote address.
func (p *Peel) count() (err error) {
	p.Counted, err = p.Books.countAddress(p.Info.Remote, p.Options.MaxConnectionsPerAddress)
	return err
}

// upgrade makes the WebSocket handshake.
func (p *Peel) upgrade(b []byte) (used int, next Next, err error) {
	u := websocket.Upgrader{Paths: p.Options.WebSocketPaths, CheckOrigin: p.checkOrigin}
	if len(u.Paths) == 0 {
		u.Paths = defaultPaths
	}
	answer, err := u.Upgrade(b)
	if errors.Is(err, websocket.ErrShort) {
		return 0, More, nil
	}
	p.Reply = answer.Response
	switch {
	case errors.Is(err, websocket.ErrOrigin):
		return 0, 0, Refuse(transport.CauseForeignOrigin, fmt.Errorf("%w %q", err, answer.Origin))
	case err != nil:
		return 0, 0, Refuse(transport.CauseWebSocket, err)
	}
	p.Info.WebSocket, p.Info.Origin = true, answer.Origin
	return answer.Size, Done, nil
}

// checkOrigin asks the listener's rule. Without one, a page must have come from this very host, and a local user's
// browser must have reached it by a name that is safe.
func (p *Peel) checkOrigin(origin, host string) bool {
	if p.Options.CheckOrigin != nil {
		return p.Options.CheckOrigin(origin, host, p.Info)
	}
	if origin != "" && p.Info.LocalPeer && !websocket.LoopbackHost(host) {
		return false
	}
	return websocket.SameOrigin(origin, host)
}
