// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
)

// holders knows whose the retained messages are, by client and by user, while rules bound them. A ledger is filled from the store when the
// first such rule comes; until then it knows less than there is.
type holders struct {
	by       [limit.PerUser + 1]atomic.Pointer[limit.Ledger]
	reading  sync.WaitGroup
	stopping atomic.Bool
}

// follow keeps the ledgers that the rules want. Under the lock of changes of config.
func (h *holders) follow(b *Broker, rules []limit.Rule) {
	var wanted [limit.PerUser + 1]bool
	for i := range rules {
		if rules[i].BoundsRetained() {
			wanted[rules[i].Per] = true
		}
	}
	for p := range h.by {
		switch l := h.by[p].Load(); {
		case wanted[p] && l == nil:
			l = limit.NewLedger()
			h.by[p].Store(l)
			h.reading.Go(func() { h.fill(b, l, limit.Per(p)) })
		case !wanted[p]:
			h.by[p].Store(nil)
		}
	}
}

func (h *holders) stop() {
	h.stopping.Store(true)
	h.reading.Wait()
}

// fill enters what the store has, in pages.
func (h *holders) fill(b *Broker, l *limit.Ledger, p limit.Per) {
	err := b.Retained("#", func(m *mqtt.Message) bool {
		l.Found(retainedOf(m, p, 0))
		return !h.stopping.Load() && h.by[p].Load() == l
	})
	if err != nil {
		b.log.Error("retained messages could not be read: rules count those of some clients too low", "err", err)
	}
}

// retainedOf is a message as a ledger has it.
func retainedOf(m *mqtt.Message, p limit.Per, at uint64) limit.Retained {
	key := m.ClientID
	if p == limit.PerUser {
		key = m.Username
	}
	return limit.Retained{Topic: strings.Clone(m.Topic), Key: strings.Clone(key), Size: int64(len(m.Topic) + len(m.Payload)), Expires: m.Expiry, At: at}
}

// mayRetain says whether rules let a client have one more retained message, and enters it. What comes to be otherwise, when the store
// refuses it, is put right then.
func (c *connection) mayRetain(m *mqtt.Message) (refusing *limit.Account) {
	h := &c.sh.b.holders
	for p := range h.by {
		a, l := c.bound.accounts[p], h.by[p].Load()
		if a == nil || l == nil || !a.Rule().BoundsRetained() {
			continue
		}
		r := a.Rule()
		if !l.Reserve(retainedOf(m, limit.Per(p), 0), c.sh.loop.Now(), r.MaxRetained, r.MaxRetainedBytes) {
			if p > 0 {
				c.sh.b.holders.recall(c.sh, m.Topic) // the rule before has entered it
			}
			return a
		}
	}
	return nil
}

// refuseRetained answers a message that a client may not retain: like one for which the store has no room.
func (c *connection) refuseRetained(a *limit.Account, m *mqtt.Message, id uint16) {
	c.hit(a, limit.RetainedRefused)
	c.sh.drop(c.client.ID, m, plugin.RetainedLimit)
	if m.QoS > 0 {
		c.notKept(m.QoS, id, store.ErrFull)
	}
}

// changed enters what the store has done.
func (h *holders) changed(m *mqtt.Message, at uint64) {
	for p := range h.by {
		switch l := h.by[p].Load(); {
		case l == nil:
		case len(m.Payload) == 0:
			l.Delete(m.Topic, at)
		default:
			l.Set(retainedOf(m, limit.Per(p), at))
		}
	}
}

// recall asks the store whose the message of a topic is, after one was entered that did not come to be.
func (h *holders) recall(sh *shard, topic string) {
	if h.by[limit.PerClient].Load() == nil && h.by[limit.PerUser].Load() == nil {
		return
	}
	topic = strings.Clone(topic)
	now := sh.loop.Now()
	var got []store.Retained
	var err error
	sh.loop.Async(func(context.Context) { // where the workers are busy, it stays as it is until the topic changes
		got, _, err = sh.b.store.RetainedPage(topic, "", 1, pageBytes, now, nil)
	}, loop.Func(func(*loop.Loop) {
		switch {
		case err != nil:
		case len(got) == 0:
			h.changed(&mqtt.Message{Topic: topic}, ^uint64(0))
		default:
			for p := range h.by {
				if l := h.by[p].Load(); l != nil {
					l.Delete(topic, ^uint64(0))
					l.Found(retainedOf(got[0].Message, limit.Per(p), 0))
				}
			}
		}
	}))
}
