// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// MaxRequest is the most bytes that the request of a handshake may have, body excluded (there is none).
const MaxRequest = 16 << 10

// Subprotocols of MQTT, the preferred one first [MQTT-6.0.0-4]. The second is of the time of MQTT 3.1.
var Subprotocols = []string{"mqtt", "mqttv3.1"}

var (
	// ErrShort says that the request is not complete.
	ErrShort = errors.New("websocket: incomplete request")
	// ErrOrigin says that the page which made the request is not welcome.
	ErrOrigin = errors.New("websocket: foreign origin")
	// ErrRequest says that the request cannot be answered by a WebSocket.
	ErrRequest = errors.New("websocket: bad request")
)

// An Upgrader answers the requests of a handshake.
type Upgrader struct {
	// Paths that are answered.
	Paths []string
	// CheckOrigin decides by the headers Origin (empty if there is none) and Host.
	CheckOrigin func(origin, host string) bool
}

// An Upgrade is the answer to a request.
type Upgrade struct {
	Size     int    // bytes of the request; frames follow
	Response []byte // to be sent, whether the request was granted or not; nil with ErrShort
	Origin   string // of the page that made the request; empty if it was none
	Protocol string // the subprotocol chosen
}

// Upgrade answers the request at the beginning of b. It returns ErrShort as long as b does not hold all of it. With any
// other error the connection is to be closed after Response was sent.
func (u *Upgrader) Upgrade(b []byte) (Upgrade, error) {
	const method = "GET "
	if head := b[:min(len(b), len(method))]; !strings.HasPrefix(method, string(head)) {
		return refusal(http.StatusMethodNotAllowed, "not a GET")
	}
	end := bytes.Index(b[:min(len(b), MaxRequest)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= MaxRequest {
			return refusal(http.StatusRequestHeaderFieldsTooLarge, "headers too long")
		}
		return Upgrade{}, ErrShort
	}
	size := end + len("\r\n\r\n")
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:size])))
	if err != nil {
		return refusal(http.StatusBadRequest, "malformed request")
	}
	answer, err := u.answer(r)
	answer.Size = size
	return answer, err
}

// answer judges a request (RFC 6455, section 4.2).
func (u *Upgrader) answer(r *http.Request) (Upgrade, error) {
	key := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.Host == "":
		return refusal(http.StatusBadRequest, "not HTTP/1.1")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return refusal(http.StatusBadRequest, "request with a body")
	case !slices.Contains(u.Paths, r.URL.Path):
		return refusal(http.StatusNotFound, "unknown path")
	case !has(r.Header, "Connection", "upgrade") || !has(r.Header, "Upgrade", "websocket"),
		!slices.Equal(r.Header.Values("Sec-WebSocket-Version"), []string{"13"}):
		return refusal(http.StatusUpgradeRequired, "WebSocket version 13 is spoken here")
	case len(key) != 1 || !validKey(key[0]):
		return refusal(http.StatusBadRequest, "Sec-WebSocket-Key missing or malformed")
	}
	protocol := choose(r.Header)
	if protocol == "" {
		return refusal(http.StatusBadRequest, "subprotocol mqtt is not offered")
	}
	origins := r.Header.Values("Origin")
	if len(origins) > 1 {
		return refusal(http.StatusBadRequest, "more than one Origin")
	}
	origin := r.Header.Get("Origin")
	if !u.CheckOrigin(origin, r.Host) {
		answer, _ := refusal(http.StatusForbidden, "this origin is not allowed")
		answer.Origin = origin
		return answer, ErrOrigin
	}
	return Upgrade{
		Response: fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", acceptKey(key[0]), protocol),
		Origin:   origin,
		Protocol: protocol,
	}, nil
}

// refusal answers no.
func refusal(status int, why string) (Upgrade, error) {
	more := ""
	switch status {
	case http.StatusUpgradeRequired:
		more = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	case http.StatusMethodNotAllowed:
		more = "Allow: GET\r\n"
	}
	return Upgrade{Response: fmt.Appendf(nil,
		"HTTP/1.1 %d %s\r\nConnection: close\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s\n",
		status, http.StatusText(status), more, len(why)+1, why)}, fmt.Errorf("%w: %s", ErrRequest, why)
}

// has reports whether a header lists a token; case does not matter.
func has(h http.Header, name, token string) bool {
	return slices.ContainsFunc(list(h, name), func(s string) bool { return strings.EqualFold(s, token) })
}

// list gives the elements of a header that is a list.
func list(h http.Header, name string) (elements []string) {
	for _, line := range h.Values(name) {
		for s := range strings.SplitSeq(line, ",") {
			elements = append(elements, strings.Trim(s, " \t"))
		}
	}
	return elements
}

// choose picks the subprotocol, empty if none of ours is offered.
func choose(h http.Header) string {
	offered := list(h, "Sec-WebSocket-Protocol")
	for _, p := range Subprotocols {
		if slices.Contains(offered, p) {
			return p
		}
	}
	return ""
}

// validKey reports whether key is 16 bytes in base64.
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// acceptKey proves that the handshake was understood (RFC 6455, section 1.3).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// SameOrigin reports whether a handshake comes from no page at all, or from one that this very host and port served. Of a
// host name that a page made up by pointing it here it knows nothing; see LoopbackHost.
func SameOrigin(origin, host string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // "null" and its like
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return strings.EqualFold(strings.TrimSuffix(u.Host, ":"+port), strings.TrimSuffix(host, ":"+port))
}

// LoopbackHost reports whether a Host header names this host by a name that no stranger can give to a page of his own:
// localhost, or a loopback address. It protects listeners that trust local peers against DNS rebinding.
func LoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}
