// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// events tells the observers, each on a goroutine of its own, through a bounded queue. Where nobody listens for a kind, telling
// costs one check.
type events struct {
	b         *Broker
	observers []*observer
	wanted    [kinds]bool
	wg        sync.WaitGroup
}

// observer is one plug-in that is told.
type observer struct {
	name   string
	e      *plugin.Events
	wanted [kinds]bool
	queue  chan event
}

type kind byte

const (
	brokerPhase kind = iota
	connectionOpened
	connectionClosed
	connectionRefused
	sessionCreated
	sessionResumed
	sessionTakenOver
	sessionEnded
	subscriptionMade
	subscriptionRemoved
	messageReceived
	messageDelivered
	messageAcknowledged
	messageDropped
	messageExpired
	retainedSet
	retainedCleared
	willFired
	alarm
	kinds
)

// event is one thing that happened; which fields count goes by its kind.
type event struct {
	kind   kind
	at     time.Time
	phase  plugin.Phase
	client *plugin.Client
	id     string
	cause  plugin.Cause
	detail string
	sub    plugin.Subscription
	m      *mqtt.Message
	alarm  *plugin.AlarmEvent
}

func newEvents(ps []plugin.Plugin, size int, b *Broker) *events {
	es := &events{b: b}
	for _, p := range ps {
		o, ok := p.(plugin.Observer)
		if !ok {
			continue
		}
		e := o.Events()
		if e == nil {
			continue
		}
		ob := &observer{name: p.Name(), e: e, queue: make(chan event, size)}
		for k := range kinds {
			ob.wanted[k] = ob.wants(k)
			es.wanted[k] = es.wanted[k] || ob.wanted[k]
		}
		es.observers = append(es.observers, ob)
		es.wg.Go(func() { ob.run(es.b) })
	}
	return es
}

// stop waits until all that was queued is told.
func (es *events) stop() {
	for _, o := range es.observers {
		close(o.queue)
	}
	es.wg.Wait()
	es.observers = nil
}

func (es *events) tell(e event) {
	e.at = es.b.opts.Now()
	for _, o := range es.observers {
		if !o.wanted[e.kind] {
			continue
		}
		select {
		case o.queue <- e:
		default:
			es.b.shards[0].tally.add(EventsDropped, 1)
		}
	}
}

func (es *events) broker(p plugin.Phase) {
	if es.wanted[brokerPhase] {
		es.tell(event{kind: brokerPhase, phase: p})
	}
}

func (es *events) opened(c *connection, resumed bool) {
	if es.wanted[connectionOpened] {
		es.tell(event{kind: connectionOpened, client: c.client})
	}
	k := sessionCreated
	if resumed {
		k = sessionResumed
	}
	es.session(c.sh, k, c.client.ID, plugin.NoCause)
}

func (es *events) closed(c *connection, detail string) {
	if es.wanted[connectionClosed] {
		es.tell(event{kind: connectionClosed, client: c.client, cause: c.cause, detail: detail})
	}
}

func (es *events) refused(c *connection, detail string) {
	if !es.wanted[connectionRefused] {
		return
	}
	client := c.client
	if client == nil {
		info := c.tc.Info()
		client = &plugin.Client{Listener: info.Listener, Transport: info.Transport(), Remote: info.Remote,
			LocalPeer: info.LocalPeer, TLS: info.TLS, Version: c.version}
	}
	es.tell(event{kind: connectionRefused, client: client, cause: c.cause, detail: detail})
}

func (es *events) session(_ *shard, k kind, clientID string, cause plugin.Cause) {
	if es.wanted[k] {
		es.tell(event{kind: k, id: clientID, cause: cause})
	}
}

func (es *events) subscription(c *connection, k kind, s *plugin.Subscription) {
	if es.wanted[k] {
		es.tell(event{kind: k, client: c.client, sub: *s})
	}
}

func (es *events) message(_ *shard, k kind, clientID string, m *mqtt.Message, cause plugin.Cause) {
	if es.wanted[k] {
		es.tell(event{kind: k, id: clientID, m: m, cause: cause})
	}
}

func (es *events) alarm(a plugin.AlarmEvent) {
	if es.wanted[alarm] {
		es.tell(event{kind: alarm, alarm: &a})
	}
}

func (o *observer) run(b *Broker) {
	for e := range o.queue {
		o.call(b, &e)
	}
}

func (o *observer) call(b *Broker, e *event) {
	defer func() {
		if v := recover(); v != nil {
			b.shards[0].tally.add(PluginPanics, 1)
			b.log.Error("an observer panicked", "plugin", o.name, "err", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	switch e.kind {
	case brokerPhase:
		o.e.Broker(plugin.BrokerEvent{At: e.at, Phase: e.phase})
	case alarm:
		o.e.Alarm(*e.alarm)
	case connectionOpened, connectionClosed, connectionRefused:
		o.connection(e.kind)(plugin.ConnectionEvent{At: e.at, Client: e.client, Cause: e.cause, Detail: e.detail})
	case sessionCreated, sessionResumed, sessionTakenOver, sessionEnded:
		o.session(e.kind)(plugin.SessionEvent{At: e.at, ClientID: e.id, Cause: e.cause})
	case subscriptionMade, subscriptionRemoved:
		o.subscription(e.kind)(plugin.SubscriptionEvent{At: e.at, Client: e.client, Subscription: e.sub})
	default:
		o.message(e.kind)(plugin.MessageEvent{At: e.at, ClientID: e.id, Message: e.m, Cause: e.cause})
	}
}

func (o *observer) connection(k kind) func(plugin.ConnectionEvent) {
	return map[kind]func(plugin.ConnectionEvent){connectionOpened: o.e.Opened, connectionClosed: o.e.Closed,
		connectionRefused: o.e.Refused}[k]
}

func (o *observer) session(k kind) func(plugin.SessionEvent) {
	return map[kind]func(plugin.SessionEvent){sessionCreated: o.e.SessionCreated, sessionResumed: o.e.SessionResumed,
		sessionTakenOver: o.e.SessionTakenOver, sessionEnded: o.e.SessionEnded}[k]
}

func (o *observer) subscription(k kind) func(plugin.SubscriptionEvent) {
	return map[kind]func(plugin.SubscriptionEvent){subscriptionMade: o.e.Subscribed,
		subscriptionRemoved: o.e.Unsubscribed}[k]
}

func (o *observer) message(k kind) func(plugin.MessageEvent) {
	return map[kind]func(plugin.MessageEvent){messageReceived: o.e.Received, messageDelivered: o.e.Delivered,
		messageAcknowledged: o.e.Acknowledged, messageDropped: o.e.Dropped, messageExpired: o.e.Expired,
		retainedSet: o.e.RetainedSet, retainedCleared: o.e.RetainedCleared, willFired: o.e.WillFired}[k]
}

func (o *observer) wants(k kind) bool {
	switch {
	case k == brokerPhase:
		return o.e.Broker != nil
	case k == alarm:
		return o.e.Alarm != nil
	case k <= connectionRefused:
		return o.connection(k) != nil
	case k <= sessionEnded:
		return o.session(k) != nil
	case k <= subscriptionRemoved:
		return o.subscription(k) != nil
	}
	return o.message(k) != nil
}
