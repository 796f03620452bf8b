// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/internal/testkit/wire"
	"github.com/noctule/noctule/mqtt"
)

// ledger is what one persistent subscriber has seen, as its application would count it.
type ledger struct {
	id   string
	last map[string]int // highest number seen, by publisher and QoS
	seen map[string]int // deliveries, by message
	held map[uint16]bool
	errs []string
}

// take counts a PUBLISH; QoS 2 counts once for each handshake.
func (l *ledger) take(p *mqtt.Publish) {
	if p.QoS == 2 {
		if l.held[p.ID] {
			return // a repetition within the handshake
		}
		l.held[p.ID] = true
	}
	key := string(p.Payload)
	l.seen[key]++
	if p.QoS == 2 && l.seen[key] > 1 {
		l.errs = append(l.errs, fmt.Sprintf("%s: %s came %d times at QoS 2", l.id, key, l.seen[key]))
	}
	from, number, _ := strings.Cut(key, " ")
	n, _ := strconv.Atoi(number)
	from = fmt.Sprintf("%s at %d", from, p.QoS)
	if n < l.last[from] && !p.Dup && l.seen[key] == 1 {
		l.errs = append(l.errs, fmt.Sprintf("%s: %s after %d", l.id, key, l.last[from]))
	}
	l.last[from] = max(n, l.last[from])
}

// step answers one packet.
func (l *ledger) step(c *wire.Client, x any) {
	switch p := x.(type) {
	case *mqtt.Publish:
		l.take(p)
		switch p.QoS {
		case 1:
			c.Send(&mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID})
		case 2:
			c.Send(&mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID})
		}
	case *mqtt.Ack:
		if p.Type == mqtt.PUBREL {
			delete(l.held, p.ID)
			c.Send(&mqtt.Ack{Type: mqtt.PUBCOMP, ID: p.ID})
		}
	}
}

// Nothing acknowledged is lost, nothing of QoS 2 comes twice, and order is kept, while persistent subscribers drop their
// connections at any moment, some by takeover, with small windows.
func TestLedgerOfFlappingSubscribers(t *testing.T) {
	const subscribers, publishers, messages = 6, 4, 400
	b := brokertest.New(t, broker.Options{Loops: 3})
	ledgers := make([]*ledger, subscribers)
	for i := range ledgers {
		l := &ledger{id: fmt.Sprint("s", i), last: map[string]int{}, seen: map[string]int{}, held: map[uint16]bool{}}
		ledgers[i] = l
		c, _ := dialLedger(t, b, l)
		c.Subscribe(1, 2, "t/#")
		c.Subscribe(2, 1, "t/+") // overlaps
		c.Conn.Close()
	}
	stop := make(chan struct{})
	var subs, pubs sync.WaitGroup
	for i, l := range ledgers {
		subs.Go(func() { flap(t, b, l, rand.New(rand.NewPCG(1, uint64(i))), stop) })
	}
	for i := range publishers {
		pubs.Go(func() {
			c := clean(t, b, mqtt.V311, fmt.Sprint("p", i))
			for n := range messages {
				c.Publish(publish(fmt.Sprint("t/", i), fmt.Sprintf("p%d %d", i, n), mqtt.QoS(1+n%2), uint16(n+1)))
			}
		})
	}
	pubs.Wait()
	close(stop)
	subs.Wait()
	for _, l := range ledgers {
		c, _ := dialLedger(t, b, l)
		for {
			x, err := c.Read(500 * time.Millisecond)
			if err != nil {
				break
			}
			l.step(c, x)
		}
		if len(l.seen) != publishers*messages {
			t.Errorf("%s has %d messages, want %d", l.id, len(l.seen), publishers*messages)
		}
		for _, e := range l.errs[:min(5, len(l.errs))] {
			t.Error(e)
		}
		c.Disconnect()
	}
	if s := b.Store().Stats(); s.Messages > 0 {
		time.Sleep(300 * time.Millisecond) // acknowledgements are told lazily
		if s = b.Store().Stats(); s.Messages > 0 {
			t.Errorf("%d messages of %d bytes are still stored", s.Messages, s.MessageBytes)
		}
	}
}

func dialLedger(t testing.TB, b *brokertest.Broker, l *ledger) (*wire.Client, *mqtt.Connack) {
	return connect(t, b, mqtt.V5, mqtt.Connect{ClientID: []byte(l.id),
		Properties: mqtt.AppendPropUint16(expiry(3600), mqtt.PropReceiveMaximum, 7)})
}

// flap connects, works for a random while, and is cut off.
func flap(t *testing.T, b *brokertest.Broker, l *ledger, r *rand.Rand, stop chan struct{}) {
	for {
		c, ack := dialLedger(t, b, l)
		if !ack.SessionPresent {
			t.Errorf("%s: session not present", l.id)
		}
		for range r.IntN(60) {
			x, err := c.Read(20 * time.Millisecond)
			if err == io.EOF {
				break
			}
			l.step(c, x)
		}
		if r.IntN(2) == 0 {
			c.Conn.Close()
		} // else the next connection takes over
		select {
		case <-stop:
			c.Conn.Close()
			return
		default:
		}
	}
}
