// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package std

import (
	"context"
	"net"

	"github.com/noctule/noctule/transport"
)

// What all transports share, by the names that it has here.
type (
	Options         = transport.Options
	ListenerOptions = transport.ListenerOptions
	ListenOptions   = transport.ListenOptions
	Protocol        = transport.Protocol
	ProxyMode       = transport.ProxyMode
	Counts          = transport.Counts
)

// Defaults of Options.
const (
	DefaultHandshakeTimeout = transport.DefaultHandshakeTimeout
	DefaultFlushTimeout     = transport.DefaultFlushTimeout
)

// Causes why a connection was refused; see transport.Causes.
const (
	CauseTooMany           = transport.CauseTooMany
	CauseTooManyPerAddress = transport.CauseTooManyPerAddress
	CauseUnknownProtocol   = transport.CauseUnknownProtocol
	CauseNoTLS             = transport.CauseNoTLS
	CauseTLS               = transport.CauseTLS
	CauseProxyHeader       = transport.CauseProxyHeader
	CauseProxyMissing      = transport.CauseProxyMissing
	CauseProxyUntrusted    = transport.CauseProxyUntrusted
	CauseWebSocket         = transport.CauseWebSocket
	CauseForeignOrigin     = transport.CauseForeignOrigin
	CauseHandshakeTimeout  = transport.CauseHandshakeTimeout
	CauseGone              = transport.CauseGone
	CauseClosing           = transport.CauseClosing
)

// What a listener speaks.
const (
	Sniff = transport.Sniff
	MQTT  = transport.MQTT
	TLS   = transport.TLS
	WS    = transport.WS
	WSS   = transport.WSS
)

// What a listener makes of PROXY protocol headers.
const (
	ProxyOff      = transport.ProxyOff
	ProxyAllowed  = transport.ProxyAllowed
	ProxyRequired = transport.ProxyRequired
)

// Listen is transport.Listen.
func Listen(ctx context.Context, network, address string, o ListenOptions) (net.Listener, error) {
	return transport.Listen(ctx, network, address, o)
}
