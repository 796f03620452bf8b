// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// willOf makes the will that a CONNECT asks for.
func (sh *shard) willOf(p *mqtt.Connect, client *plugin.Client) *store.Will {
	if !p.HasWill {
		return nil
	}
	m := p.Will.Message(sh.loop.Now())
	m.ClientID, m.Username = client.ID, client.Username
	delay, _ := p.Will.Properties.Uint32(mqtt.PropWillDelayInterval)
	return &store.Will{Message: m, Delay: delay}
}

// fireWill publishes a will, if its client still may [MQTT-3.1.2-8]. session names a stored session, whose will is
// removed in the same commit; then is called, on this shard's loop, when all is done.
func (sh *shard) fireWill(client *plugin.Client, will *mqtt.Message, session store.SessionID, then func()) {
	m := *will
	m.Stamp(sh.loop.Now())
	done := func(*shard, error) {
		if then != nil {
			then()
		}
	}
	a := plugin.Access{Client: client, Action: plugin.Will, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain}
	d, undecided := sh.b.decide(&a)
	if undecided {
		job := func(ctx context.Context) { d = sh.b.decideSlow(ctx, &a) }
		if sh.loop.Async(job, loop.Func(func(*loop.Loop) { sh.willDecided(d, &m, session, done) })) {
			return
		}
		d = denied("overload")
	}
	// As a task of its own: a will may fire amid the routing of another message.
	sh.loop.Post(loop.Func(func(*loop.Loop) { sh.willDecided(d, &m, session, done) }))
}

func (sh *shard) willDecided(d plugin.Decision, m *mqtt.Message, session store.SessionID, done func(*shard, error)) {
	if d.Verdict != plugin.Allow {
		sh.b.log.Debug("will denied", "client", m.ClientID, "name", m.Topic, "rule", d.Rule)
		sh.drop(m.ClientID, m, plugin.PublishRefused)
		if session == 0 {
			done(sh, nil)
			return
		}
		sh.b.store.ProposePublish(&store.Publish{Message: m, WillOf: session, IdentifierOnly: true, Done: func(p *store.Publish) {
			sh.loop.Post(loop.Func(func(*loop.Loop) { done(sh, p.Err) }))
		}})
		return
	}
	sh.tally.add(WillsFired, 1)
	sh.b.events.message(sh, willFired, m.ClientID, m, plugin.NoCause)
	sh.route(m, origin{will: session, then: done})
}

// fireWills publishes wills that the store has found due.
func (b *Broker) fireWills(wills []store.DueWill) {
	for _, w := range wills {
		home := b.home(w.ClientID)
		home.loop.Post(loop.Func(func(*loop.Loop) { home.fireWill(home.author(&w), w.Message, w.ID, nil) }))
	}
}

// author is the client of a stored will as authorizers are to see it. After a restart only its names are known.
func (sh *shard) author(w *store.DueWill) *plugin.Client {
	c := sh.absent[w.ClientID]
	delete(sh.absent, w.ClientID)
	if c == nil || c.Username != w.Message.Username {
		c = &plugin.Client{ID: w.ClientID, Username: w.Message.Username}
	}
	return c
}

// keeper has the store look at expiry times and will delays when they are due. It runs on the first loop.
type keeper struct {
	b       *Broker
	timer   loop.Timer
	ticking bool
	stopped atomic.Bool
}

func (k *keeper) start(b *Broker) {
	k.b = b
	k.wake()
}

func (k *keeper) stop() { k.stopped.Store(true) }

// wake has the keeper look at the earliest time again. Any goroutine.
func (k *keeper) wake() { k.b.loops.Loop(0).Post(k) }

// Run ticks the store if something is due, and sets the timer for what is next.
func (k *keeper) Run(l *loop.Loop) {
	if k.ticking || k.stopped.Load() {
		return
	}
	due := k.b.store.NextDue()
	switch {
	case due == 0:
		l.Cancel(&k.timer)
	case due > l.Now():
		l.At(&k.timer, due, k)
	default:
		k.ticking = true
		k.b.store.ProposeTick(&store.Tick{Now: l.Now(), Done: func(t *store.Tick) {
			l.Post(loop.Func(func(l *loop.Loop) { k.ticked(l, t) }))
		}})
	}
}

func (k *keeper) ticked(l *loop.Loop, t *store.Tick) {
	k.ticking = false
	if t.Err != nil {
		if !errors.Is(t.Err, store.ErrClosed) && !errors.Is(t.Err, store.ErrFailed) {
			k.b.log.Error("sessions could not be expired", "err", t.Err)
			l.At(&k.timer, l.Now()+1_000_000_000, k)
		}
		k.b.storeError(t.Err)
		return
	}
	sh := k.b.shards[0]
	for _, e := range t.Ended {
		sh.tally.add(SessionsExpired, 1)
		k.b.events.session(sh, sessionEnded, e.ClientID, plugin.SessionExpired)
		k.b.freed(e.Freed)
	}
	k.b.fireWills(t.Wills)
	if t.More {
		k.Run(l)
		return
	}
	// A due will stays due until its publication is committed: look again in a while, not at once.
	next := k.b.store.NextDue()
	if next != 0 {
		l.At(&k.timer, max(next, l.Now()+50_000_000), k)
	}
}
