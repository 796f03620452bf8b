// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package plugin is the contract for extensions of the broker.
//
// A plug-in is a value with a Name and any of the small interfaces of this package. Deciders are on a packet's path,
// are bounded in time, and may refuse or change; observers are told afterwards through a bounded queue. A hook that
// no plug-in implements costs one length check.
//
// The life of a plug-in:
//
//  1. It is made (by a factory from the registry and its configuration, or by the program that embeds the broker).
//  2. Start, if it is a Starter, before the broker serves. An error keeps the broker from starting.
//  3. Its deciders and observers are called, from many goroutines at once.
//  4. Stop, if it is a Stopper, after the last call.
//
// A panic in a plug-in is contained and counted: a decider that panics counts as one that failed, and failure denies.
//
// Deciders of one kind are asked in the order in which the plug-ins were given; the first decisive answer stands.
// A plug-in imports neither broker nor another plug-in.
package plugin

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Plugin is what every plug-in is.
type Plugin interface {
	// Name is a path such as "auth.file" or "acl.file", unique in one broker.
	Name() string
}

// Starter is a plug-in that has something to do before the broker serves.
type Starter interface {
	// Start may block until ctx ends. The host stays valid until Stop.
	Start(ctx context.Context, h Host) error
}

// Stopper is a plug-in with something to finish.
type Stopper interface {
	// Stop may block until ctx ends.
	Stop(ctx context.Context) error
}

// Reloader is a plug-in that reads its files again. A failed reload changes nothing.
type Reloader interface {
	Reload(ctx context.Context) error
}

// Host is what the broker offers to its plug-ins. Its methods may be called from any goroutine.
type Host interface {
	Logger() *slog.Logger
	Now() time.Time
	// Publish hands a message in as if a client had sent it, without asking any decider. It returns when the message
	// is accepted: kept where its QoS demands it.
	Publish(ctx context.Context, m *mqtt.Message) error
	// Disconnect ends a client's connection. It reports whether there was one.
	Disconnect(clientID string, code mqtt.ReasonCode) bool
}

// Client is what is known of a connection. It is shared and must not be changed.
type Client struct {
	ID        string
	Username  string
	Listener  string
	Transport string // tcp, tls, ws, wss, unix
	Remote    net.Addr
	TLS       *tls.ConnectionState // nil without TLS
	Groups    []string             // given by the authenticator
	Grant     *Grant               // likewise; nil without
	Version   mqtt.Version
	LocalPeer bool // the client runs on this host; see transport.Info
	Anonymous bool // nobody vouches for the user name
}

// Verdict is a decider's answer.
type Verdict byte

const (
	Ignore Verdict = iota // no opinion: ask the next
	Allow
	Deny
)

func (v Verdict) String() string {
	return [...]string{"ignore", "allow", "deny"}[v]
}

// Decision is a Verdict with its reason.
type Decision struct {
	Verdict Verdict
	// Code is what the client is told on Deny where its version allows; zero means NotAuthorized, or for a login
	// BadUserNameOrPassword: one answer for every refused login.
	Code mqtt.ReasonCode
	// Rule names what decided, for logs and `acl test`: "users.txt:12". Never sent to clients.
	Rule string
}

// Login is a request to connect.
type Login struct {
	Client   *Client // without Groups
	Password []byte  // lent until the call returns
	HasUser  bool    // a user name was given
	HasPass  bool
}

// Identity is what an authenticator adds to an allowed login.
type Identity struct {
	Username string   // replaces the client's user name where not empty
	Groups   []string // for authorizers
	Grant    *Grant   // nil without
}

// Grant is what an authenticator knows of a client besides its names. It is shared and must not be changed.
type Grant struct {
	Claims  map[string]string // of a token, a directory or a table; ${claim.NAME} in rules
	Rules   []string          // rules for this client alone, lines in the language of acl.file; see GrantAuthorizer
	Expires time.Time         // when the login ends; zero = with the connection
}

// Authenticator decides who may connect. Called on a worker goroutine; it may block until ctx ends (Options.HookTimeout).
// An error denies.
type Authenticator interface {
	Authenticate(ctx context.Context, l *Login) (Decision, Identity, error)
}

// EnhancedAuthenticator speaks one authentication method of MQTT 5.0 (section 4.12). Begin and Exchange.Next are called on a
// worker goroutine and may block until ctx ends.
type EnhancedAuthenticator interface {
	Method() string // exact match with the client's Authentication Method
	Begin(ctx context.Context, c *Client) (Exchange, error)
}

// Exchange is one run of an authentication method.
type Exchange interface {
	// Next takes the client's Authentication Data (lent) and answers with the server's. done with Verdict Allow ends
	// it well; Deny ends the connection.
	Next(ctx context.Context, data []byte) (reply []byte, done bool, d Decision, id Identity, err error)
}

// Action is what an Access is about.
type Action byte

const (
	Publish Action = iota
	Subscribe
	Will    // a will, asked at CONNECT and again when it is published
	Receive // a message about to be delivered: asked only of authorizers with AuthorizesReceive
)

func (a Action) String() string {
	return [...]string{"publish", "subscribe", "will", "receive"}[a]
}

// Access is a question to the authorizers. It is lent until the call returns.
type Access struct {
	Client *Client
	Action Action
	Topic  string // topic name, or for Subscribe the topic filter without $share and share name
	Share  string // share name, "" if none
	QoS    mqtt.QoS
	Retain bool
}

// Authorizer decides who may publish or subscribe to what. It is called on the connection's loop and must not block:
// decide from memory. When authorizers are registered and none is decisive the answer is Deny.
type Authorizer interface {
	Authorize(a *Access) Decision
}

// ReceiveAuthorizer is an Authorizer that also wants to be asked before each delivery.
type ReceiveAuthorizer interface {
	Authorizer
	AuthorizesReceive() bool
}

// SteadyAuthorizer is an Authorizer whose answer to one question, about one *Client, stays the same for as long as its rules do, so that the
// broker may remember it.
type SteadyAuthorizer interface {
	Authorizer
	// RulesVersion changes whenever rules change: after the new ones are in force. Called often, from any goroutine; it must not block.
	RulesVersion() uint64
}

// GrantAuthorizer is the authorizer that reads the rules of grants (Grant.Rules). It is asked before all others, about clients whose grant has
// rules and about no others. Without one such clients may do nothing. A broker has one at most.
type GrantAuthorizer interface {
	Authorizer
	ReadsGrants()
}

// SlowAuthorizer is an Authorizer that has to ask elsewhere. A plug-in that is an Authorizer too is asked so only where that says Ignore: it
// answers from memory what it can. It is called on a worker goroutine, may block until ctx
// ends, and holds up the connection that it is asked about, nobody else. An error denies.
type SlowAuthorizer interface {
	AuthorizeSlow(ctx context.Context, a *Access) (Decision, error)
}

// Preparer is an Authorizer that wants to load what it will need about a client. It is called on a worker goroutine when a login was allowed,
// and may block until ctx ends. An error refuses the connection as for the moment (0x88): so nothing that waits for the client is withheld because
// its rights are not known.
type Preparer interface {
	Prepare(ctx context.Context, c *Client) error
}

// PublishInterceptor sees each message that a client publishes, after authorization and before routing. It may change
// the message (a clone of its own) or refuse it with a reason code of 0x80 or above. Called on the connection's loop; it must not block.
type PublishInterceptor interface {
	InterceptPublish(c *Client, m *mqtt.Message) mqtt.ReasonCode
}

// SubscribeInterceptor may change a subscription's options or refuse it with a reason code of 0x80 or above. Called on the
// connection's loop; it must not block.
type SubscribeInterceptor interface {
	InterceptSubscribe(c *Client, s *Subscription) mqtt.ReasonCode
}

// Subscription is a subscription as asked for.
type Subscription struct {
	Filter            string // whole, with $share and share name
	QoS               mqtt.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	Identifier        uint32
}

// DeliverInterceptor sees each message before it is sent to one client, and may refuse (false: the delivery is dropped
// and counted) or give another message to send instead. m is shared and must not be changed. Called on the client's
// loop for every delivery; it must not block.
type DeliverInterceptor interface {
	InterceptDeliver(c *Client, m *mqtt.Message) (*mqtt.Message, bool)
}
