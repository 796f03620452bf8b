// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// Forever is a session expiry that never comes.
const Forever = math.MaxUint32 * time.Second

// Overflow says what a publish does that finds the queue full.
type Overflow byte

const (
	Block      Overflow = iota // wait for room, until the context ends
	Refuse                     // fail with ErrQueueFull
	DropOldest                 // make room: the oldest waiting message fails with ErrDropped
)

// Options shape a client. Only Servers is needed.
type Options struct {
	// Servers are the URLs to connect to, tried in turn: mqtt:// or tcp:// (port 1883), mqtts://, tls:// or ssl:// (8883),
	// ws:// (80) and wss:// (443) with the path /mqtt if there is none, and unix:///path. User and password may stand in
	// the URL.
	Servers []string

	// ClientID identifies the session. Empty: the server assigns one.
	ClientID string
	// Version of the protocol; 0 is 5.0.
	Version mqtt.Version
	// CleanStart has the server forget the session at the first connection; in 3.1 and 3.1.1, where it is called
	// Clean Session, at each one and at its end too.
	CleanStart bool
	// SessionExpiry is how long the server keeps the session after the connection, in whole seconds. 5.0 only.
	SessionExpiry time.Duration
	// KeepAlive is the longest silence towards the server, in whole seconds; 0 is 60 s, negative is none. In 5.0 the
	// server may set another.
	KeepAlive time.Duration
	// PingTimeout is how long the answer to a PINGREQ may take; 0 is 10 s. It is at most the keep alive.
	PingTimeout time.Duration
	// ConnectTimeout bounds an attempt to connect, up to the CONNACK; 0 is 30 s.
	ConnectTimeout time.Duration

	Username string
	Password []byte
	// Credentials, if set, is asked before each attempt, for passwords that change. It runs on the client's goroutine,
	// may block until ctx ends, and its error is that of the attempt.
	Credentials func(ctx context.Context) (username string, password []byte, err error)
	// Auth makes enhanced authentication. 5.0 only.
	Auth Authenticator
	// Will is published by the server when the connection ends without DISCONNECT.
	Will *Will

	// ReceiveMaximum is how many messages of QoS 1 and 2 the server may have under way to this client; 0 is 1000. 5.0 only.
	ReceiveMaximum uint16
	// MaxInflight is how many messages of QoS 1 and 2 this client has under way at once, where the server would take more;
	// 0 is as many as it takes.
	MaxInflight uint16
	// MaxPacket is the largest packet taken from the server, in bytes; 0 is the standard's limit.
	MaxPacket uint32
	// TopicAliasesIn and TopicAliasesOut are how many topic aliases the server may make, and how many the client
	// makes at most; 0 is none. 5.0 only.
	TopicAliasesIn, TopicAliasesOut uint16
	// RequestResponseInformation asks the server for a prefix of response topics. 5.0 only.
	RequestResponseInformation bool
	// NoProblemInformation asks the server to leave out reason strings and user properties where it may. 5.0 only.
	NoProblemInformation bool
	// NoIdentifiers keeps the client from giving subscription identifiers of its own, by which it tells in 5.0 which handler a
	// message is for where subscriptions overlap.
	NoIdentifiers bool
	// User are the user properties of CONNECT. 5.0 only.
	User []UserProperty

	// TLS is used for mqtts:// and wss://. The name in the server's certificate is checked against the host of the URL,
	// or ServerName if that is set.
	TLS *tls.Config
	// Header is sent with the handshake of a WebSocket.
	Header http.Header
	// Dial, if set, opens the stream under TLS and WebSocket in place of a net.Dialer. network is tcp or unix.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Reconnect says how long to wait before another attempt; again = false ends the client. attempt counts from 1 since a
	// connection was last good, cause is why it ended or did not come about. nil is Backoff{}.Wait, which never gives up.
	// It runs on the client's goroutine and must not block.
	Reconnect func(attempt int, cause error) (wait time.Duration, again bool)
	// Random gives numbers of [0, 1) for the jitter of the default Reconnect; nil is math/rand/v2.
	Random func() float64

	// MaxQueue and MaxQueueBytes bound the messages that wait for the connection or for the server's quota; 0 is 10 000 and 64 MiB.
	MaxQueue      int
	MaxQueueBytes int64
	// Overflow says what happens to a publish beyond that.
	Overflow Overflow
	// Directory, if set, keeps messages of QoS 1 and 2 on disk until they are acknowledged, with the state of QoS 2 in
	// both directions, so that they outlive the program. It belongs to one client, which needs a ClientID.
	Directory string
	// Sync has each record of Directory forced to the disk, so that it outlives a power cut too.
	Sync bool

	// Subscriptions are made at the first connection, with their handlers in place before any message can come: what a
	// session that outlives the program needs.
	Subscriptions []Subscription
	// Handler takes messages that no subscription matches. Without it they are acknowledged and counted.
	Handler Handler
	// MaxInbox is how many messages wait for handlers; 0 is 1000. Beyond it the client stops reading, and so the server
	// sending; but while a call waits for the server's answer, messages of QoS 0 are dropped and counted instead.
	// Messages of QoS 1 and 2 are never dropped; ReceiveMaximum bounds them.
	MaxInbox int

	// OnConnected and OnDisconnected are told of connections, in order with the messages, on the goroutine of the handlers.
	OnConnected    func(Connected)
	OnDisconnected func(Disconnected)
	// Trace, if set, is shown every packet, sent or received; mqtt.Dump makes a line for people of it. body is lent, and
	// may lack a large payload. It may run under the client's lock: it must be fast and must not call the client.
	Trace func(sent bool, v mqtt.Version, h mqtt.Header, body []byte)
	// Logger is told what no caller and no event hears of; nil is silence.
	Logger *slog.Logger
}

// Defaults of Options.
const (
	defaultKeepAlive      = 60 * time.Second
	defaultPingTimeout    = 10 * time.Second
	defaultConnectTimeout = 30 * time.Second
	defaultReceiveMaximum = 1000
	defaultMaxQueue       = 10_000
	defaultMaxQueueBytes  = 64 << 20
	defaultMaxInbox       = 1000
)

// fill puts the defaults in and checks what can be checked without a server.
func (o *Options) fill() ([]*url.URL, error) {
	setDefault(&o.Version, mqtt.V5)
	setDefault(&o.KeepAlive, defaultKeepAlive)
	setDefault(&o.PingTimeout, defaultPingTimeout)
	setDefault(&o.ConnectTimeout, defaultConnectTimeout)
	setDefault(&o.ReceiveMaximum, defaultReceiveMaximum)
	setDefault(&o.MaxQueue, defaultMaxQueue)
	setDefault(&o.MaxQueueBytes, defaultMaxQueueBytes)
	setDefault(&o.MaxInbox, defaultMaxInbox)
	o.KeepAlive = max(o.KeepAlive, 0)
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Reconnect == nil {
		o.Reconnect = Backoff{Random: o.Random}.Wait
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("client: options: %w", err)
	}
	return parseServers(o.Servers)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) check() error {
	switch {
	case o.Version < mqtt.V31 || o.Version > mqtt.V5:
		return fmt.Errorf("there is no MQTT version %d", o.Version)
	case o.ClientID == "" && o.Version == mqtt.V31:
		return errors.New("MQTT 3.1 wants a ClientID")
	case o.ClientID == "" && o.Version < mqtt.V5 && !o.CleanStart: // [MQTT-3.1.3-8]
		return errors.New("option CleanStart without a ClientID must be true in MQTT 3.1.1")
	case o.ClientID == "" && o.Directory != "":
		return errors.New("option Directory wants a ClientID")
	case o.KeepAlive > math.MaxUint16*time.Second:
		return fmt.Errorf("option KeepAlive is above %d s", math.MaxUint16)
	case o.SessionExpiry < 0 || o.SessionExpiry > Forever:
		return errors.New("option SessionExpiry is out of range")
	case o.Version == mqtt.V311 && o.Username == "" && len(o.Password) > 0 && o.Credentials == nil: // [MQTT-3.1.2-22]
		return errors.New("a password without a user name exists in 5.0 only")
	case len(o.Password) > mqtt.MaxString:
		return errors.New("option Password is longer than 65535 bytes")
	case o.Auth != nil && o.Version != mqtt.V5:
		return errors.New("option Auth exists in 5.0 only")
	}
	if err := errors.Join(checkText("ClientID", o.ClientID), checkText("Username", o.Username), checkUser(o.User)); err != nil {
		return err
	}
	if o.Will != nil {
		if err := o.Will.Message.check(o.Version); err != nil {
			return fmt.Errorf("will: %w", err)
		}
		if len(o.Will.Payload) > mqtt.MaxString {
			return errors.New("will: the payload is longer than 65535 bytes")
		}
	}
	return checkSubscriptions(o.Subscriptions)
}

// checkText refuses a string that cannot be sent, before anything is encoded.
func checkText(what, s string) error {
	if len(s) > mqtt.MaxString {
		return fmt.Errorf("%s is longer than 65535 bytes", what)
	}
	if !mqtt.ValidText([]byte(s)) {
		return fmt.Errorf("%s is not valid UTF-8, or has the character U+0000", what)
	}
	return nil
}

func checkUser(user []UserProperty) error {
	for _, p := range user {
		if err := checkText("name of a user property", p.Name); err != nil {
			return err
		}
		if err := checkText("value of a user property", p.Value); err != nil {
			return err
		}
	}
	return nil
}

func checkSubscriptions(subs []Subscription) error {
	for i := range subs {
		s := &subs[i]
		if _, err := topic.ParseFilter(s.Filter, 0); err != nil {
			return err
		}
		if err := checkText("topic filter", s.Filter); err != nil {
			return err
		}
		switch {
		case s.QoS > 2:
			return fmt.Errorf("topic filter %q: there is no QoS %d", s.Filter, s.QoS)
		case s.RetainHandling > 2:
			return fmt.Errorf("topic filter %q: RetainHandling is above 2", s.Filter)
		case s.Identifier > mqtt.MaxRemaining:
			return fmt.Errorf("topic filter %q: Identifier is above %d", s.Filter, mqtt.MaxRemaining)
		case s.Identifier != subs[0].Identifier:
			return errors.New("subscriptions of one call have different identifiers")
		}
		if err := checkUser(s.User); err != nil {
			return err
		}
	}
	return nil
}
