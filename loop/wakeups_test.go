// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
)

// How often loops wake each other, by number of loops and load: a simulation, for machines with more cores than are at hand. Each message
// comes by itself on one loop and goes to a connection of a loop drawn at random, as the hash of client identifiers does it. Costs
// are those measured with one message under way for each of 200 pairs.
const (
	simRead  = 4000  // ns: read, decode, route
	simWrite = 4000  // ns: write to the receiver
	simPoll  = 1000  // ns: an iteration's epoll_wait, mailbox and timers
	simWake  = 1500  // ns: the write that wakes another loop
	simSleep = 10000 // ns: from that write until the woken loop runs
	simBatch = 64    // readiness events taken by one iteration
)

// crowd is the simulated loops.
type crowd struct {
	rnd   *rand.Rand
	loops []simLoop
	next  simEvents

	rate              float64 // arrivals a ns and loop
	messages, wakeups int
	busy              int64
	latency           []int64
}

type simLoop struct {
	asleep  bool
	arrived []int64 // times of arrival of messages that are not read
	mail    []int64 // of messages to be written
}

type simEvent struct {
	at      int64
	loop    int
	arrival bool // a message comes; else the loop begins an iteration
}

type simEvents []simEvent

func (e simEvents) Len() int           { return len(e) }
func (e simEvents) Less(i, j int) bool { return e[i].at < e[j].at }
func (e simEvents) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)        { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// newCrowd makes n loops, each of which would be busy for that share of the time by reading and writing alone.
func newCrowd(n int, load float64) *crowd {
	c := &crowd{rnd: rand.New(rand.NewPCG(uint64(n), 1)), loops: make([]simLoop, n), rate: load / (simRead + simWrite)}
	for i := range c.loops {
		c.loops[i].asleep = true
		c.arriveLater(0, i)
	}
	return c
}

func (c *crowd) arriveLater(now int64, loop int) {
	heap.Push(&c.next, simEvent{now + int64(c.rnd.ExpFloat64()/c.rate), loop, true})
}

// run simulates until so many messages were written.
func (c *crowd) run(messages int) {
	for c.messages < messages {
		e := heap.Pop(&c.next).(simEvent)
		l := &c.loops[e.loop]
		if !e.arrival {
			c.iterate(e.at, e.loop)
			continue
		}
		l.arrived = append(l.arrived, e.at)
		c.arriveLater(e.at, e.loop)
		if l.asleep { // the kernel wakes it: epoll_wait returns
			l.asleep = false
			heap.Push(&c.next, simEvent{e.at + simSleep, e.loop, false})
		}
	}
}

// iterate is one iteration of a loop: what has come is read and handed over, what was handed to it is written.
func (c *crowd) iterate(now int64, at int) {
	l := &c.loops[at]
	if len(l.arrived)+len(l.mail) == 0 {
		l.asleep = true
		return
	}
	read := l.arrived[:min(simBatch, len(l.arrived))]
	took := int64(simPoll + simRead*len(read) + simWrite*len(l.mail))
	for _, came := range l.mail {
		c.messages++
		c.latency = append(c.latency, now+took-came)
	}
	l.mail = l.mail[:0]
	out := map[int][]int64{}
	for _, came := range read {
		to := c.rnd.IntN(len(c.loops))
		out[to] = append(out[to], came)
	}
	l.arrived = l.arrived[len(read):]
	for to := range c.loops { // in order, so that a run can be repeated
		if len(out[to]) == 0 {
			continue
		}
		t := &c.loops[to]
		t.mail = append(t.mail, out[to]...)
		if to != at && t.asleep {
			t.asleep = false
			c.wakeups++
			took += simWake
			heap.Push(&c.next, simEvent{now + took + simSleep, to, false})
		}
	}
	c.busy += took
	heap.Push(&c.next, simEvent{now + took, at, false})
}

func TestWakeupsOfManyLoops(t *testing.T) {
	const messages = 50_000
	table := "loops  load  wake-ups a message  CPU us a message\n"
	perMessage := map[string]float64{}
	for _, n := range []int{1, 2, 8, 32, 128} {
		for _, load := range []float64{0.05, 0.3, 0.6, 0.8} {
			c := newCrowd(n, load)
			c.run(messages)
			w := float64(c.wakeups) / float64(c.messages)
			perMessage[fmt.Sprint(n, load)] = w
			table += fmt.Sprintf("%5d  %3.0f%%  %18.2f  %16.1f\n", n, 100*load, w, float64(c.busy)/1000/float64(c.messages))
		}
	}
	t.Log("\n" + table)
	if perMessage["1 0.05"] != 0 {
		t.Error("a single loop has nobody to wake")
	}
	if idle, busy := perMessage["32 0.05"], perMessage["32 0.8"]; idle < 0.5 || busy > idle/2 {
		t.Errorf("%.2f wake-ups a message where loops are idle, %.2f where they are busy: a busy loop is not asleep", idle, busy)
	}
	if few, many := perMessage["8 0.3"], perMessage["128 0.3"]; many > 1.3*few {
		t.Errorf("wake-ups grow with the number of loops, from %.2f to %.2f a message: a message has one receiver", few, many)
	}
}
