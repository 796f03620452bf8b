// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"log/slog"
	"time"

	"github.com/noctule/noctule/broker/attempt"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
)

// Options configure a broker. The zero value is a working broker with a store in memory.
type Options struct {
	// Store keeps what survives a connection. Nil means a store in memory. The broker closes it at Shutdown.
	Store store.Store
	// Durability is the class of messages, but for those that Policy.DurabilityByTopic names; see store.Publish. It does not
	// change what the store does with other commands: that was chosen when it was opened. Without a Store it is InMemory.
	Durability store.Durability
	// Watch is what the store tells its notices to; nil where nobody listens to them.
	Watch *StoreWatch
	// Drops is the journal of dropped messages. Nil means one in memory. The broker closes it at Shutdown.
	Drops *journal.Journal
	// Bans keep clients out. Nil means a list in memory. The broker closes it at Shutdown.
	Bans *ban.List
	// Plugins are asked and told in this order.
	Plugins []plugin.Plugin
	// Logger gets life cycle at Info, connections at Debug. Nil discards.
	Logger *slog.Logger
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Random fills a slice with random bytes, for assigned client identifiers. Nil means crypto/rand.
	Random func([]byte)
	// Loops is the number of loops. 0 means GOMAXPROCS.
	Loops int
	// StallAlarm is how long a loop may be blocked before that is logged, with the stack of its goroutine, and told as the alarm loop_blocked.
	// 0 means 1 s; negative: nobody looks.
	StallAlarm time.Duration
	// NewPoller makes what loop i waits in, as a transport may want it; nil where it does not. See loop.Options.
	NewPoller func(i int) loop.Poller
	// Limits bound what clients may do; see DefaultLimits. They may be changed later with SetLimits.
	Limits *Limits
	// Policy is how the broker behaves where the standard leaves a choice. It may be changed with SetPolicy.
	Policy Policy
	// HookTimeout bounds each decider that may block. 0 means 5 s.
	HookTimeout time.Duration
	// ObserverQueue is the number of events that wait for one observer before they are dropped. 0 means 8 192.
	ObserverQueue int
	// Memory tells how many bytes of memory are used, and how many may be; asked four times a second, on any goroutine. Nil, or a limit of 0,
	// means that there is no limit.
	Memory func() (used, limit int64)
	// Version is what $SYS/broker/version says.
	Version string
}

// Limits are granted at most. They apply to connections made after a change, Max* of queues at once.
type Limits struct {
	ConnectTimeout      time.Duration // for the whole way to a granted CONNECT
	MaxConnectPacket    int           // bytes of a packet before CONNECT is granted
	MaxPacket           int           // bytes of a packet
	MaxClientID         int           // bytes
	MaxTopicLevels      int           // of names and filters
	MaxTopicLength      int           // bytes of names and filters
	MaxUserProperties   int           // per packet
	MaxSubscriptions    int           // per session
	MaxKeepAlive        time.Duration // told to 5.0 clients as Server Keep Alive; 0 = none
	MaxSessionExpiry    time.Duration // 0 = no cap
	MaxQoS              mqtt.QoS
	ReceiveMaximum      uint16 // QoS 1 and 2 messages in flight from one client
	MaxInflight         uint16 // QoS 1 and 2 messages in flight to one client, whatever it offers
	TopicAliasMaximum   uint16 // both ways
	MaxQueueMessages    int    // waiting for one online session of no expiry
	MaxQueueBytes       int
	MaxTotalQueueBytes  int64 // of all these queues; from half of it on, MaxQueueBytes shrinks to an eighth
	MaxConnections      int   // granted connections; 0 = no limit
	MaxOutBytes         int   // hard budget of a connection's out-queue; half of it is the soft one
	MaxHandover         int   // bytes on their way to one loop before publishers are paused
	MaxPendingRetained  int   // retained deliveries read ahead for one subscription
	MaxSharedQueue      int   // messages waiting in a shared subscription without persistent members
	RetainAvailable     bool
	WildcardAvailable   bool
	SharedAvailable     bool
	IdentifierAvailable bool
	MaxLoopLag          time.Duration // that a task waits for its loop before new connections are refused; 0 = no mark
	MaxCommitDelay      time.Duration // likewise of commits, and of connections that need the store
	// Rules are limits for some clients, or for some of them together: see limit.Rule. Of those that count by the same (client, user,
	// address, listener or rule) the first that matches a client holds for it.
	Rules []limit.Rule
}

// DefaultLimits are safe for a broker on an open network.
func DefaultLimits() Limits {
	return Limits{
		ConnectTimeout: 10 * time.Second, MaxConnectPacket: 16 << 10, MaxPacket: 1 << 20, MaxClientID: 1024,
		MaxTopicLevels: 128, MaxTopicLength: 65535, MaxUserProperties: 64, MaxSubscriptions: 10_000,
		MaxKeepAlive: time.Hour, MaxSessionExpiry: 30 * 24 * time.Hour, MaxQoS: 2,
		ReceiveMaximum: 256, MaxInflight: 1024, TopicAliasMaximum: 32,
		MaxQueueMessages: 100_000, MaxQueueBytes: 64 << 20, MaxTotalQueueBytes: 1 << 30, MaxOutBytes: 1 << 20, MaxHandover: 16 << 20,
		MaxPendingRetained: 64, MaxSharedQueue: 100_000, MaxLoopLag: 2 * time.Second, MaxCommitDelay: 30 * time.Second,
		RetainAvailable: true, WildcardAvailable: true, SharedAvailable: true, IdentifierAvailable: true,
	}
}

// DefaultStoreLimits bound the store that a broker makes for itself. A session may be owed as much by all its filters
// together as by one of them, so that a client which subscribes to many filters and goes away costs no more than one which
// subscribes to a single busy one.
func DefaultStoreLimits() store.Limits {
	return store.Limits{MaxQueueMessages: 1_000_000, MaxQueueBytes: 256 << 20,
		MaxSessionMessages: 1_000_000, MaxSessionBytes: 256 << 20, MaxRetained: 5_000_000,
		MaxRetainedBytes: 4 << 30, MaxSessions: 1_000_000}
}

// Policy is how the broker behaves where the standard leaves a choice.
type Policy struct {
	// AllowAnonymous lets clients in that no authenticator vouches for: LoopbackOnly where zero.
	AllowAnonymous Anonymous
	// SharedStrategy picks the member of a shared subscription.
	SharedStrategy Strategy
	// SharedRedeliver gives what a member left unacknowledged (QoS 1) to another one as soon as its connection drops,
	// not only when its session ends.
	SharedRedeliver bool
	// ValidatePayload refuses payloads that claim to be UTF-8 and are not (0x99).
	ValidatePayload bool
	// DisconnectOnDeny ends the connection of a client that publishes what it may not, instead of answering 0x87.
	DisconnectOnDeny bool
	// ResponseInformation is given to clients that ask for it; "%c" stands for the client identifier.
	ResponseInformation string
	// SysInterval is the time between two publications of $SYS. Negative turns them off, 0 means 10 s.
	SysInterval time.Duration
	// ServerReference is told to clients that Redirect sends away.
	ServerReference string
	// DurabilityByTopic gives messages of some topics another class than Options.Durability; the first filter that matches counts.
	// It is looked at only for messages that go to the store.
	DurabilityByTopic []TopicDurability
	// LoginAttempts slows down who guesses passwords; the zero value does not.
	LoginAttempts attempt.Policy
	// Flapping bans client identifiers that connect too often; the zero value bans nobody.
	Flapping ban.FlappingPolicy
	// WhenFull is what publishers of messages that must be kept get while the disk is full.
	WhenFull WhenFull
}

// TopicDurability is the class of durability of the messages whose topics match.
type TopicDurability struct {
	Filter     string // a topic filter, not a shared one
	Durability store.Durability
}

// WhenFull is what to do with publishers while the disk is full.
type WhenFull byte

const (
	RefuseWhenFull WhenFull = iota // 0x97 to 5.0 clients; the others' connection ends, for their acknowledgement would be a lie
	HoldWhenFull                   // the acknowledgement waits for room, and the publisher is not read until then
)

// Anonymous says where clients may come in without a login, when no authenticator has an opinion.
type Anonymous byte

const (
	LoopbackOnly Anonymous = iota // from this host only, and only while no authenticator is registered
	Everywhere
	Nowhere
)

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limits == nil {
		l := DefaultLimits()
		o.Limits = &l
	}
	if o.HookTimeout <= 0 {
		o.HookTimeout = 5 * time.Second
	}
	if o.ObserverQueue <= 0 {
		o.ObserverQueue = 8192
	}
	if o.Version == "" {
		o.Version = "noctule"
	}
}

// seconds gives d in whole seconds, capped, with 0 as the given value.
func seconds(d time.Duration, most uint32, zero uint32) uint32 {
	if d <= 0 {
		return zero
	}
	return uint32(min(int64(d/time.Second), int64(most)))
}

// offer is what session.Grant hands out under these limits.
func (l *Limits) offer() session.Offer {
	return session.Offer{
		MaxPacket: uint32(l.MaxPacket), ReceiveMaximum: max(1, l.ReceiveMaximum), SendMaximum: max(1, l.MaxInflight),
		TopicAliasesIn: l.TopicAliasMaximum, TopicAliasesOut: l.TopicAliasMaximum,
		MaxKeepAlive:     uint16(seconds(l.MaxKeepAlive, 0xFFFF, 0)),
		MaxSessionExpiry: seconds(l.MaxSessionExpiry, store.Never, store.Never),
		MaxQoS:           l.MaxQoS, NoRetain: !l.RetainAvailable, NoWildcard: !l.WildcardAvailable,
		NoShared: !l.SharedAvailable, NoIdentifiers: !l.IdentifierAvailable, MaxClientID: l.MaxClientID,
	}
}

// config is what shards read of the options that may change; replaced as a whole.
type config struct {
	limits   Limits
	offer    session.Offer
	policy   Policy
	weakness mqtt.Properties // told at CONNACK
	rules    *limit.Set
}
