// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// Strain is one thing that the broker can have too much of.
type Strain byte

// What is watched.
const (
	LoopStrain   Strain = iota // tasks wait long for their loop
	MemoryStrain               // memory is near its limit
	StoreStrain                // commits take long
	strains                    // how many
)

var strainWords = [strains]string{"loop", "memory", "store"}

func (s Strain) String() string { return strainWords[s] }

// Strains lists them.
func Strains() []Strain { return []Strain{LoopStrain, MemoryStrain, StoreStrain} }

// Marks. A strain begins when two looks in a row are beyond its mark, and ends when eight in a row are below half of it: memory, which
// grows fast and falls slowly, begins at once and has marks of its own.
const (
	strainLook = 250 * time.Millisecond
	idleLook   = 2 * time.Second // while nothing happens
	beginLooks = 2
	endLooks   = 8

	memoryLook  = 25 * time.Millisecond // from memoryNear on
	memoryNear  = 60                    // percent of the limit
	memoryEnds  = 82
	memoryHigh  = 88
	memoryDire  = 94 // publishes are refused
	leastWindow = 16 // what Receive Maximum shrinks to, unless it is less anyway
)

// overload watches the strains, on a goroutine of its own: a loop that does not turn could not tell.
//
// While there is one, new connections are refused with 0x89, new clients get a smaller Receive Maximum, and of each look the clients that have
// sent the most, half of all bytes together, are not read until the next, though no client twice in a row. A strain of the store lets everything go on that does not need it.
type overload struct {
	b       *Broker
	quit    chan struct{}
	done    sync.WaitGroup
	on      [strains]atomic.Bool
	dire    atomic.Bool  // memory is nearly used up: nothing new is taken
	calm    atomic.Bool  // loops note who sends how much
	used    atomic.Int64 // memory, bytes; 0 where nobody tells
	limit   atomic.Int64
	begun   [strains]atomic.Int64 // how often
	worst   [strains]atomic.Int64 // ns of the last look; of memory percent
	over    [strains]int          // looks in a row beyond the mark, or below its half: negative
	probes  []probe               // of the loops
	commit  probe
	nothing bool // since the last look
}

// probe measures how long something takes that is asked for again and again; answered on any goroutine.
type probe struct {
	asked  atomic.Int64 // unix ns; 0: answered
	took   atomic.Int64 // ns, of the last answer
	passed int64        // iterations of the loop
}

func (p *probe) ask(now int64) bool { return p.asked.CompareAndSwap(0, now) }

func (p *probe) answer(now int64) {
	p.took.Store(now - p.asked.Load())
	p.asked.Store(0)
}

// delay is that of the last answer, or how long the next is due.
func (p *probe) delay(now int64) time.Duration {
	took := p.took.Load()
	if at := p.asked.Load(); at != 0 {
		took = max(took, now-at)
	}
	return time.Duration(took)
}

func (o *overload) start(b *Broker) {
	o.b, o.quit, o.probes = b, make(chan struct{}), make([]probe, len(b.shards))
	o.done.Go(o.run)
}

func (o *overload) stop() {
	close(o.quit)
	o.done.Wait()
}

func (o *overload) run() {
	next := time.NewTimer(strainLook)
	defer next.Stop()
	for {
		select {
		case <-o.quit:
			return
		case <-next.C:
		}
		o.look()
		switch {
		case o.nothing && !o.calm.Load():
			next.Reset(idleLook)
		case o.watchMemory():
			next.Reset(0)
		default:
			next.Reset(strainLook)
		}
	}
}

// watchMemory looks at memory alone until the next look at everything is due, and more often: a burst fills gigabytes in a second. It says
// whether that was worth it.
func (o *overload) watchMemory() bool {
	n := 0
	for ; n < int(strainLook/memoryLook) && o.used.Load()*100 >= o.limit.Load()*memoryNear && o.limit.Load() > 0; n++ {
		select {
		case <-o.quit:
			return true
		case <-time.After(memoryLook):
		}
		o.lookAtMemory(false)
	}
	return n > 0
}

// look looks at everything once.
func (o *overload) look() {
	now := o.b.loops.Now()
	l := &o.b.config.Load().limits
	o.nothing = true
	lag := time.Duration(0)
	for i := range o.probes {
		lag = max(lag, o.askLoop(i, now))
	}
	o.judge(LoopStrain, int64(lag), int64(l.MaxLoopLag), int64(l.MaxLoopLag/2))
	if o.commit.ask(now) {
		o.b.store.Barrier(func() { o.commit.answer(o.b.loops.Now()) })
	}
	delay := o.commit.delay(now)
	o.judge(StoreStrain, int64(delay), int64(l.MaxCommitDelay), int64(l.MaxCommitDelay/2))
	o.lookAtMemory(true)
	calm := o.on[LoopStrain].Load() || o.on[MemoryStrain].Load()
	if was := o.calm.Swap(calm); calm || was {
		for _, sh := range o.b.shards {
			sh.loop.Post(loop.Func(func(*loop.Loop) { sh.calmDown(calm) }))
		}
	}
}

// askLoop asks a loop for a sign of life, unless it has rested since the last look: to wake it up for that would cost an idle broker its
// rest.
func (o *overload) askLoop(i int, now int64) time.Duration {
	p, l := &o.probes[i], o.b.shards[i].loop
	s := l.Stats()
	busy := s.Iterations-p.passed > 3 || !s.Asleep // some are our own
	p.passed = s.Iterations
	if busy {
		o.nothing = false
		if p.ask(now) {
			l.Post(loop.Func(func(*loop.Loop) { p.answer(o.b.loops.Now()) }))
		}
	} else if p.asked.Load() == 0 {
		p.took.Store(0)
	}
	return p.delay(now)
}

// lookAtMemory begins a strain of memory at any look, and ends it by those at everything.
func (o *overload) lookAtMemory(whole bool) {
	if o.b.opts.Memory == nil {
		return
	}
	used, limit := o.b.opts.Memory()
	o.used.Store(used)
	o.limit.Store(limit)
	if limit <= 0 {
		return
	}
	percent := int64(float64(used) / float64(limit) * 100)
	if whole || percent >= memoryHigh {
		o.judge(MemoryStrain, percent, memoryHigh, memoryEnds)
	}
	dire := percent >= memoryDire || o.dire.Load() && percent >= memoryHigh
	if dire && !o.dire.Swap(dire) {
		o.b.log.Error("memory is nearly used up: publishes are refused", "used", used, "limit", limit)
	}
	o.dire.Store(dire)
}

// judge begins or ends a strain.
func (o *overload) judge(s Strain, value, mark, end int64) {
	o.worst[s].Store(value)
	n := &o.over[s]
	switch {
	case mark > 0 && value >= mark:
		*n = max(*n, 0) + 1
	case value < end || mark <= 0:
		*n = min(*n, 0) - 1
	default:
		*n = 0
	}
	switch on := o.on[s].Load(); {
	case !on && (*n >= beginLooks || s == MemoryStrain && *n > 0):
		o.change(s, true, value, mark)
	case on && *n <= -endLooks:
		o.change(s, false, value, mark)
	}
}

var strainAlarms = [strains]noticeKind{
	{alarm: "overload_loop", text: "the broker is overloaded: tasks wait long for a processor", do: "look at what clients send, at limits.rules, and at what else uses the processors"},
	{alarm: "overload_memory", text: "the broker is overloaded: memory is near memory.limit", do: "look at what waits in queues, at limits.rules, and at memory.limit"},
	{alarm: "overload_store", text: "the broker is overloaded: commits take long", do: "look for what else uses the disk of the data directory"},
}

func (o *overload) change(s Strain, on bool, value, mark int64) {
	o.on[s].Store(on)
	k := strainAlarms[s]
	k.ends = !on
	args := []any{"percent", value, "mark", mark}
	if s != MemoryStrain {
		args = []any{"took", time.Duration(value), "mark", time.Duration(mark)}
	}
	if on {
		o.begun[s].Add(1)
		o.b.log.Warn(k.text, append(args, "do", k.do)...)
	} else {
		o.b.log.Info("the overload is over", append(args, "strain", s.String())...)
	}
	a := Alarm{Name: k.alarm, Since: o.b.opts.Now(), Text: k.text, Do: k.do}
	if o.b.alarms.change(a, k.ends, false) {
		o.b.events.alarm(plugin.AlarmEvent{At: a.Since, Name: a.Name, Text: a.Text, Raised: on})
	}
}

// busy says whether everything is too much.
func (o *overload) busy() bool { return o.on[LoopStrain].Load() || o.on[MemoryStrain].Load() }

// window is the Receive Maximum for a new client: the whole one, or less the more waits for the store; the least while there is an overload.
// What was told a client stays; its acknowledgements come later instead, and it is read less.
func (o *overload) window(most uint16) uint16 {
	least := min(most, leastWindow)
	commands, bytes := o.b.store.Pending()
	part := max(float64(commands)/markCommands, float64(bytes)/markBytes)
	switch {
	case o.busy() || o.on[StoreStrain].Load() || part >= 1:
		return least
	case part < 0.25:
		return most
	}
	return least + uint16(float64(most-least)*(1-part))
}

// calmDown goes on reading those that were not read since the last look, and, while there is an overload, stops the others of those that have
// sent the most of late: the fewest that have sent half of all bytes.
func (sh *shard) calmDown(on bool) {
	q := &sh.quiet
	total := int64(0)
	for _, c := range q.active {
		total += c.sent
	}
	slices.SortFunc(q.active, func(a, b *connection) int { return cmp.Compare(b.sent, a.sent) })
	loudest, n := int64(0), 0
	for _, c := range q.active {
		switch loud := loudest*2 < total; {
		case c.hold&holdOverload != 0:
			c.resume(holdOverload)
		case loud && on && c.state == open:
			c.stop(holdOverload)
			sh.tally.add(OverloadPauses, 1)
		}
		loudest += c.sent
		c.sent /= 2
		if on && c.state == open && c.sent > 0 || c.hold&holdOverload != 0 {
			q.active[n] = c
			n++
			continue
		}
		c.sent = 0
	}
	clear(q.active[n:])
	q.active, q.on = q.active[:n], on
}

// quiet is what a loop knows of who sends, while there is an overload.
type quiet struct {
	on     bool
	active []*connection // that have sent of late, or are not read
}

// note counts what a connection sends. Half of it is forgotten with each look.
func (q *quiet) note(c *connection, n int) {
	if c.sent == 0 && n > 0 {
		q.active = append(q.active, c)
	}
	c.sent += int64(n)
}

// tooMuchForUs refuses a CONNECT while there is an overload.
func (c *connection) tooMuchForUs() bool {
	if !c.sh.b.over.busy() {
		return false
	}
	c.refuse(plugin.Overload, mqtt.ServerBusy, "")
	return true
}

// mayKeep says whether there is memory for a message that was published. Where there is not, QoS 0 is dropped and 5.0 clients are told
// 0x97. Older ones know no such answer: their connection ends, for an acknowledgement would be a lie.
func (c *connection) mayKeep(p *mqtt.Publish) bool {
	if !c.sh.b.over.dire.Load() {
		return true
	}
	if p.QoS > 0 && c.version != mqtt.V5 {
		c.closeWith(plugin.Overload, mqtt.QuotaExceeded, "")
		return false
	}
	c.refuseMessage(p, plugin.Overload, mqtt.QuotaExceeded)
	return false
}
