// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/noctule/noctule/broker/attempt"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/broker/journal"
	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
	"github.com/noctule/noctule/transport"
)

// ErrStopped refuses calls on a broker that is shut down.
var ErrStopped = errors.New("broker: stopped")

// Broker is one MQTT server. Its exported methods may be called from any goroutine.
type Broker struct {
	opts    Options
	log     *slog.Logger
	config  atomic.Pointer[config]
	loops   *loop.Group
	shards  []*shard
	seed    maphash.Seed
	index   *topic.Index[*subscriber]
	store   store.Store
	hooks   hooks
	events  *events
	sys     *sysTopics
	keeper  keeper
	over    overload
	holders holders
	drops   *journal.Journal
	alarms  alarms

	bans     *ban.List
	flapping *ban.Flapping
	attempts *attempt.Limiter

	notices  [store.SlowDiskEnd + 1]atomic.Int64 // of the store, by kind
	full     atomic.Bool                         // the disk, as the notices have it
	slow     atomic.Bool                         // likewise
	failOnce sync.Once
	failed   chan struct{} // closed when the disk failed
	failure  error         // why; after failed

	setting sync.Mutex // one change of config at a time

	viewSuffices bool // no plug-in needs a clone of each QoS 0 message

	phase        atomic.Int32 // plugin.Phase
	connected    atomic.Int64
	queuedBytes  atomic.Int64 // in all queues of connections
	maxConnected atomic.Int64
	blocked      int // loops that do not turn; of the goroutine of loopStalled
	started      time.Time

	drainOnce, stopOnce sync.Once
	stopped             chan struct{} // closed when the loops have ended
	drained, stopErr    error
}

// New makes a broker, starts its plug-ins and its loops, and recovers what the store holds. It serves nobody before its Core is
// given to a transport.
func New(o Options) (*Broker, error) {
	o.setDefaults()
	b := &Broker{opts: o, log: o.Logger, seed: maphash.MakeSeed(), started: o.Now(), failed: make(chan struct{}),
		stopped: make(chan struct{})}
	if err := b.hooks.add(o.Plugins); err != nil {
		return nil, err
	}
	if o.Store == nil {
		b.store = store.NewMemory(store.Options{Limits: DefaultStoreLimits()})
		b.opts.Durability = store.InMemory
	} else {
		b.store = o.Store
	}
	if b.drops = o.Drops; b.drops == nil {
		b.drops = journal.New(journal.Options{Now: o.Now})
	}
	if b.bans = o.Bans; b.bans == nil {
		b.bans = ban.New(o.Now)
	}
	b.flapping, b.attempts = ban.NewFlapping(b.bans), attempt.New()
	if o.Random == nil {
		b.opts.Random = func(p []byte) { rand.Read(p) } // never fails, by its documentation
	}
	if err := b.setConfig(*o.Limits, o.Policy); err != nil {
		b.store.Close() // err matters more
		b.drops.Close()
		return nil, err
	}
	n := o.Loops
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	b.loops = loop.NewGroup(n, loop.Options{Now: o.Now, Logger: o.Logger, OnPanic: b.taskPanicked, NewPoller: o.NewPoller,
		StallAlarm: o.StallAlarm, OnStall: b.loopStalled})
	b.index = topic.NewIndex[*subscriber](n)
	for i := range n {
		b.shards = append(b.shards, newShard(b, b.loops.Loop(i)))
	}
	for _, sh := range b.shards {
		for _, to := range b.shards {
			sh.packing = append(sh.packing, packer{from: sh, to: to})
		}
	}
	b.sys = newSysTopics(b)
	b.events = newEvents(o.Plugins, o.ObserverQueue, b)
	b.viewSuffices = len(b.hooks.publishers) == 0 && !b.events.wanted[messageReceived] && !b.events.wanted[messageDelivered]
	o.Watch.attach(b)
	b.loops.Start()
	if err := b.startPlugins(); err != nil {
		b.loops.Stop(context.Background())
		b.holders.stop()
		b.store.Close() // err matters more
		b.drops.Close()
		b.bans.Close()
		b.events.stop()
		return nil, err
	}
	b.setPhase(plugin.Configured)
	b.keeper.start(b)
	b.over.start(b)
	b.sys.start()
	b.setPhase(plugin.Ready)
	return b, nil
}

func (b *Broker) startPlugins() error {
	for i, p := range b.opts.Plugins {
		s, ok := p.(plugin.Starter)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := s.Start(ctx, host{b, p.Name()})
		cancel()
		if err != nil {
			b.stopPlugins(context.Background(), b.opts.Plugins[:i])
			return fmt.Errorf("broker: start plug-in %s: %w", p.Name(), err)
		}
	}
	return nil
}

func (b *Broker) stopPlugins(ctx context.Context, ps []plugin.Plugin) {
	for i := len(ps) - 1; i >= 0; i-- {
		if s, ok := ps[i].(plugin.Stopper); ok {
			if err := s.Stop(ctx); err != nil {
				b.log.Error("plug-in did not stop cleanly", "plugin", ps[i].Name(), "err", err)
			}
		}
	}
}

// ReloadPlugins has every plug-in that can do so read its files again. All are tried; the errors are joined.
func (b *Broker) ReloadPlugins(ctx context.Context) error {
	var errs []error
	for _, p := range b.opts.Plugins {
		if r, ok := p.(plugin.Reloader); ok {
			if err := r.Reload(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name(), err))
			}
		}
	}
	return errors.Join(errs...)
}

// Loops are the broker's loops, for the transport that feeds it.
func (b *Broker) Loops() *loop.Group { return b.loops }

// Core makes the protocol side of an accepted connection; a transport calls it on the connection's loop.
func (b *Broker) Core(tc transport.Conn) transport.Core {
	return b.shards[tc.Loop().Index()].accept(tc)
}

// Limits are those in force.
func (b *Broker) Limits() Limits { return b.config.Load().limits }

// SetLimits replaces the limits. Connections keep what they were granted; rates hold for them at once. It fails, and changes nothing, where a rule
// is not valid.
func (b *Broker) SetLimits(l Limits) error {
	b.setting.Lock()
	defer b.setting.Unlock()
	old := b.config.Load().rules
	if err := b.setConfig(l, b.config.Load().policy); err != nil {
		return err
	}
	if !b.config.Load().rules.Same(old) {
		for _, sh := range b.shards {
			sh.loop.Post(loop.Func(func(*loop.Loop) { sh.rebindAll() }))
		}
	}
	return nil
}

// SetPolicy replaces the policy.
func (b *Broker) SetPolicy(p Policy) {
	b.setting.Lock()
	defer b.setting.Unlock()
	b.setConfig(b.config.Load().limits, p) //nolint:errcheck // the rules are those in force
}

func (b *Broker) setConfig(l Limits, p Policy) error {
	var old *limit.Set
	if was := b.config.Load(); was != nil {
		old = was.rules
	}
	rules, err := limit.NewSet(l.Rules, old)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	b.config.Store(&config{limits: l, offer: l.offer(), policy: p, weakness: weakness(b.opts.Durability, p.DurabilityByTopic), rules: rules})
	b.holders.follow(b, l.Rules)
	return nil
}

// Phase is where the broker stands in its life.
func (b *Broker) Phase() plugin.Phase { return plugin.Phase(b.phase.Load()) }

func (b *Broker) setPhase(p plugin.Phase) {
	b.phase.Store(int32(p))
	b.events.broker(p)
}

// home is the shard that owns a client identifier, or a shared subscription's filter.
func (b *Broker) home(key string) *shard {
	return b.shards[maphash.String(b.seed, key)%uint64(len(b.shards))]
}

// Store is the store that the broker uses.
func (b *Broker) Store() store.Store { return b.store }

// Drain sends all clients away: 5.0 clients are told 0x8B, windows are drained while ctx lasts, sessions are handed to the store. It
// returns when all connections are gone; with ctx's error where clients had to be cut off. New connections are refused from then on.
func (b *Broker) Drain(ctx context.Context) error {
	b.drainOnce.Do(func() {
		b.setPhase(plugin.Draining)
		b.sys.stop()
		b.drained = b.drain(ctx)
	})
	return b.drained
}

// Shutdown drains, and stops plug-ins, store and loops. Who serves with a transport closes its listeners, calls Drain, closes
// the transport, which needs the loops, and then calls Shutdown. It returns nil when all was in order.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.stopOnce.Do(func() { b.stopErr = b.shutdown(ctx) })
	return b.stopErr
}

func (b *Broker) shutdown(ctx context.Context) error {
	drained := b.Drain(ctx)
	b.over.stop()
	b.holders.stop()
	b.keeper.stop()
	storeErr := b.store.Close()
	b.drops.Close()
	b.bans.Close()
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	loopErr := b.loops.Stop(stopCtx)
	close(b.stopped)
	b.setPhase(plugin.Stopped)
	b.events.stop()
	b.stopPlugins(stopCtx, b.opts.Plugins)
	return errors.Join(drained, storeErr, loopErr)
}

// drain tells every client to leave and waits until all connections are gone, their sessions handed to the store.
func (b *Broker) drain(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, sh := range b.shards {
		sh.loop.Post(loop.Func(func(*loop.Loop) { sh.drain() }))
	}
	cut := false
	grace := time.NewTimer(10 * time.Second) // for the teardown of those that were cut off
	defer grace.Stop()
	done := ctx.Done()
	for {
		if b.alive() == 0 {
			if cut {
				return fmt.Errorf("broker: clients were cut off: %w", context.Cause(ctx))
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-done:
			cut, done = true, nil
			grace.Reset(10 * time.Second)
			for _, sh := range b.shards {
				sh.loop.Post(loop.Func(func(*loop.Loop) { sh.cut() }))
			}
		case <-grace.C:
			if cut {
				return fmt.Errorf("broker: %d connections did not end", b.alive())
			}
			grace.Reset(10 * time.Second)
		}
	}
}

// alive counts connections that hold something: a socket or a claim.
func (b *Broker) alive() int64 {
	n := int64(0)
	for _, sh := range b.shards {
		n += sh.alive.Load()
	}
	return n
}

func (b *Broker) taskPanicked(v any, stack []byte) {
	b.log.Error("a task panicked; the loop goes on", "err", fmt.Sprint(v), "stack", string(stack))
}

// Disconnect ends a client's connection with a reason code. It reports whether there was one; it waits for the client's loop, so no
// decider that runs on a loop may call it.
func (b *Broker) Disconnect(clientID string, code mqtt.ReasonCode) bool {
	return b.onHolder(clientID, func(c *connection) { c.closeWith(plugin.AdministrativeAction, code, "") })
}

// Redirect sends a 5.0 client to another server (0x9C where permanent is false, else 0x9D) with the given Server
// Reference; older clients are cut off. Otherwise it is like Disconnect.
func (b *Broker) Redirect(clientID, serverReference string, permanent bool) bool {
	code := mqtt.UseAnotherServer
	if permanent {
		code = mqtt.ServerMoved
	}
	return b.onHolder(clientID, func(c *connection) {
		c.rarely().reference = serverReference
		c.closeWith(plugin.ServerMoved, code, "")
	})
}

// onHolder runs f for the open connection of a client identifier, on its loop, and reports whether there was one.
func (b *Broker) onHolder(clientID string, f func(*connection)) bool {
	found := make(chan bool, 1)
	sh := b.home(clientID)
	sh.loop.Post(loop.Func(func(*loop.Loop) {
		c := sh.holder(clientID)
		if c != nil {
			f(c)
		}
		found <- c != nil
	}))
	select {
	case ok := <-found:
		return ok
	case <-b.stopped:
		return false
	}
}
