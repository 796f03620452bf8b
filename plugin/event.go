// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Observer is a plug-in that is told what happened.
type Observer interface {
	// Events says, once, before the broker serves, what is to be told.
	Events() *Events
}

// Events are optional functions, called one after the other on one goroutine of the observer's own, in the order in
// which things happened on each connection. They may block: meanwhile events collect in a bounded queue, and beyond its
// size they are dropped and counted (Options.ObserverQueue). Everything handed in is shared and must not be changed.
type Events struct {
	Broker func(BrokerEvent)
	// Alarm tells of what an operator has to look at, when it begins and when it ends: the disk is full, slow, failed or damaged, or a
	// loop is blocked.
	Alarm func(AlarmEvent)

	Opened func(ConnectionEvent) // CONNECT was accepted
	Closed func(ConnectionEvent) // with Cause
	// Refused is a connection that never got so far; Client may hold little.
	Refused func(ConnectionEvent)

	SessionCreated   func(SessionEvent)
	SessionResumed   func(SessionEvent)
	SessionTakenOver func(SessionEvent)
	SessionEnded     func(SessionEvent) // expired, replaced by a clean start, or ended with its connection

	Subscribed   func(SubscriptionEvent)
	Unsubscribed func(SubscriptionEvent)

	Received     func(MessageEvent) // from a client, after authorization
	Delivered    func(MessageEvent) // written to a client's out-queue
	Acknowledged func(MessageEvent) // by the receiver: PUBACK or PUBCOMP
	Dropped      func(MessageEvent) // with Cause
	Expired      func(MessageEvent)

	RetainedSet     func(MessageEvent)
	RetainedCleared func(MessageEvent)
	WillFired       func(MessageEvent)
}

// Phase is a step in the life of a broker.
type Phase byte

const (
	Configured Phase = iota // options are checked, plug-ins are started
	Ready                   // listeners are open
	Draining                // no new connections, clients are told to leave
	Stopped
)

func (p Phase) String() string {
	return [...]string{"configured", "ready", "draining", "stopped"}[p]
}

// BrokerEvent is a step in the broker's life.
type BrokerEvent struct {
	At    time.Time
	Phase Phase
}

// AlarmEvent is the beginning or the end of something that an operator has to look at.
type AlarmEvent struct {
	At     time.Time
	Name   string // disk_full, disk_slow, disk_failed, damaged, loop_blocked, overload_loop, overload_memory, overload_store
	Text   string // what and where
	Raised bool   // false: it is over
}

// ConnectionEvent is about one connection.
type ConnectionEvent struct {
	At     time.Time
	Client *Client
	Cause  Cause
	Detail string // the error in words; may hold text from the client
}

// SessionEvent is about one session.
type SessionEvent struct {
	At       time.Time
	ClientID string
	Cause    Cause
}

// SubscriptionEvent is about one subscription.
type SubscriptionEvent struct {
	At           time.Time
	Client       *Client
	Subscription Subscription
}

// MessageEvent is about one message; ClientID is the publisher's or receiver's, as the event has it.
type MessageEvent struct {
	At       time.Time
	ClientID string
	Message  *mqtt.Message
	Cause    Cause
}
