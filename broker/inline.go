// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/topic"
)

// Publish hands a message in as if a client had sent it, without asking any decider. It returns when the message is
// accepted: kept where its QoS demands it. The broker owns m and all it refers to from then on.
func (b *Broker) Publish(ctx context.Context, m *mqtt.Message) error {
	if !mqtt.ValidTopicName([]byte(m.Topic)) {
		return &mqtt.Error{Code: mqtt.TopicNameInvalid, Op: "publish", Err: errors.New("not a topic name: " + m.Topic)}
	}
	if m.QoS > 2 {
		return &mqtt.Error{Code: mqtt.QoSNotSupported, Op: "publish"}
	}
	if b.Phase() == plugin.Stopped {
		return ErrStopped
	}
	key := m.ClientID
	if key == "" {
		key = m.Topic
	}
	sh := b.home(key)
	done := make(chan error, 1)
	sh.loop.Post(loop.Func(func(l *loop.Loop) {
		m.Stamp(l.Now())
		b.events.message(sh, messageReceived, m.ClientID, m, plugin.NoCause)
		sh.route(m, origin{then: func(_ *shard, err error) { done <- err }})
	}))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.stopped:
		return ErrStopped
	}
}

// inline is a subscription of this process.
type inline struct {
	queue   chan *mqtt.Message
	dropped atomic.Int64
}

// take queues a message for the function; what finds no room is dropped and counted.
func (in *inline) take(sh *shard, m *mqtt.Message) {
	select {
	case in.queue <- m:
	default:
		in.dropped.Add(1)
		sh.drop("", m, plugin.ReceiverSlow)
	}
}

// inlineQueue is how many messages wait for the function of a subscription in this process.
const inlineQueue = 1024

// Subscribe calls f, on a goroutine of its own, for each message that matches a topic filter (no shared subscription), until cancel is called. Messages are
// shared and must not be changed. Up to 1 024 wait while f is busy; beyond that they are dropped and counted. Retained messages
// are not sent. cancel waits for the last call of f, so f must not call it.
func (b *Broker) Subscribe(filter string, f func(*mqtt.Message)) (cancel func(), err error) {
	parsed, err := topic.ParseFilter(filter, b.Limits().MaxTopicLevels)
	if err != nil {
		return nil, err
	}
	if parsed.Share != "" {
		return nil, &mqtt.Error{Code: mqtt.SharedSubscriptionsNotSupported, Op: "subscribe"}
	}
	in := &inline{queue: make(chan *mqtt.Message, inlineQueue)}
	s := &subscriber{inline: in, qos: 2, filter: parsed.Filter, whole: filter}
	sh := b.home(filter)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case m := <-in.queue:
				f(m)
			case <-stop:
				return
			}
		}
	})
	b.index.Add(parsed.Filter, sh.n, s)
	return sync.OnceFunc(func() {
		b.index.Remove(parsed.Filter, sh.n, s)
		close(stop)
		wg.Wait()
	}), nil
}

// Retained calls yield for each retained message that matches a topic filter, in pages; it may block on a disk.
func (b *Broker) Retained(filter string, yield func(*mqtt.Message) bool) error {
	after := ""
	for {
		page, more, err := b.store.RetainedPage(filter, after, pageMessages, pageBytes, b.opts.Now().UnixNano(), nil)
		if err != nil {
			return err
		}
		for _, r := range page {
			if !yield(r.Message) {
				return nil
			}
			after = r.Topic
		}
		if !more {
			return nil
		}
	}
}
