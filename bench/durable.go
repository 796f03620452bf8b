// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/noctule/noctule/internal/load"
)

// Brokers of the durable scenarios.
var (
	// strongest promise as much as they can at each message.
	strongest = []string{"noctule", "noctule-interval", "mosquitto-autosave", "mochi-pebble", "mochi-bolt"}
	// keepers still have their messages after a restart, and can keep many.
	keepers = []string{"noctule", "noctule-interval", "mosquitto-persist", "mochi-pebble"}
)

const (
	fanSessions = 1000
	fanLevels   = 10  // of the topic: two to the power of it are at least fanSessions
	fanShare    = 200 // of all messages, one in so many goes to each of the sessions
	fanPayload  = 256

	smallPayload = 100
	keptWindow   = 64
	fillers      = 50 // publishers that fill a store

	queueFilter = "load/+"
	// patience is how long a broker may keep still while messages are drained.
	patience = 10 * time.Second
	// settleFull is how long a broker is left alone before its memory is read, once it has much: collectors of garbage and timers run.
	settleFull = 5 * time.Second

	groupSize    = 100 // retained messages below each topic prefix
	perSession   = 10  // messages queued for each session before a restart
	sampleOfLost = 100 // sessions that are drained to see whether all is there
)

// online is the load on the session of the drain scenario once it is online.
var online = load.Plan{Shape: load.FanIn, Clients: 10, QoS: 1, Payload: smallPayload, Window: keptWindow}

func durable(p load.Plan) load.Plan {
	p.Persistent, p.Patience = true, 2*time.Second // those that synchronise each write pause often
	return p
}

// stage is where the steps of a scenario take place: a broker that runs, and the run whose figures are taken.
type stage struct {
	pr      *process
	run     *run
	plan    load.Plan
	options *options
}

// add notes a figure.
func (s *stage) add(name string, value float64) {
	s.run.Figures = append(s.run.Figures, figure{Name: name, Value: value})
}

// addCompared notes a figure whose ratio to that of other brokers is reported too.
func (s *stage) addCompared(name string, value float64) {
	s.run.Figures = append(s.run.Figures, figure{Name: name, Value: value, Compared: true})
}

// durablePairs measures messages that are kept and delivered at once.
func durablePairs(ctx context.Context, s *stage) error {
	if err := s.run.takeLoad(ctx, s.pr, s.plan, s.options.measured); err != nil {
		return err
	}
	s.addCompared("CPU us/msg", s.run.CPUPerMsg)
	s.addCompared("msg/s", s.run.MessageRate)
	s.addCompared("PUBACK p50 ms", millis(s.run.Outcome.AckHalf))
	s.addCompared("PUBACK p99 ms", millis(s.run.Outcome.AckMost))
	if s.pr.trace == "" {
		return nil
	}
	n, err := syncsIn(s.pr.trace, s.run.looks[0], s.run.looks[1])
	if err != nil {
		return err
	}
	s.add("syncs/s", float64(n)/s.run.Outcome.Elapsed.Seconds())
	s.add("syncs/msg", float64(n)/float64(max(s.run.Outcome.Delivered, 1)))
	return nil
}

func durableFan(ctx context.Context, s *stage) error {
	return s.fan(ctx, func(int) string { return fanFilter(0) })
}

func durableFanDistinct(ctx context.Context, s *stage) error { return s.fan(ctx, fanFilter) }

// fanFilter is the i-th of the filters that match one topic name: a + for each bit of i.
func fanFilter(i int) string {
	filter := "fan"
	for level := range fanLevels {
		if i>>level&1 == 1 {
			filter += "/+"
		} else {
			filter += fmt.Sprint("/", level)
		}
	}
	return filter
}

// fan measures messages that many sessions get, none of which is online.
func (s *stage) fan(ctx context.Context, filter func(i int) string) error {
	sessions := make([]load.Session, fanSessions)
	for i := range sessions {
		sessions[i] = load.Session{ClientID: fmt.Sprint("fan", i), Filters: []string{filter(i)}}
	}
	if err := load.MakeSessions(ctx, s.pr.addr, sessions); err != nil {
		return err
	}
	time.Sleep(settle)
	sizeBefore, writtenBefore, err := s.disk()
	if err != nil {
		return err
	}
	fill := load.Fill{Clients: 1, Names: []string{fanFilter(0)}, Count: max(s.options.messages/fanShare, 1), Payload: fanPayload, Window: 16, Within: s.options.within}
	filled, err := fill.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return err
	}
	time.Sleep(settle) // what is to be on disk soon is there now
	size, written, err := s.disk()
	if err != nil {
		return err
	}
	n := float64(max(filled.Acked, 1))
	s.add("messages", float64(filled.Acked))
	s.addCompared("CPU us/msg", micros(filled.BrokerCPU)/n)
	s.addCompared("msg/s", float64(filled.Acked)/filled.Elapsed.Seconds())
	s.addCompared("PUBACK p50 ms", millis(filled.AckHalf))
	s.addCompared("PUBACK p99 ms", millis(filled.AckMost))
	s.add("growth of files B/msg", float64(size-sizeBefore)/n)
	s.add("written to disk B/msg", float64(written-writtenBefore)/n)
	return nil
}

// disk is how long the broker's files are, and what it has had written so far.
func (s *stage) disk() (size, written int64, err error) {
	if size, err = bytesOf(s.pr.dir); err != nil {
		return 0, 0, err
	}
	written, err = s.pr.written()
	return size, written, err
}

// drain measures a long queue: its growth, its end, and for comparison the same session while it is online.
func drain(ctx context.Context, s *stage) error {
	if err := load.MakeSessions(ctx, s.pr.addr, []load.Session{{ClientID: load.FanInSubscriber, Filters: []string{queueFilter}}}); err != nil {
		return err
	}
	empty, _, err := s.pr.memory()
	if err != nil {
		return err
	}
	fill := load.Fill{Clients: s.plan.Clients, Count: s.count(s.options.messages), Payload: s.plan.Payload, Window: s.plan.Window, Within: s.options.within}
	for i := range s.plan.Clients {
		fill.Names = append(fill.Names, fmt.Sprint("load/", i))
	}
	filled, err := fill.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return err
	}
	if err := s.addFilled(ctx, "queue", filled, empty); err != nil {
		return err
	}
	d := load.Drain{ClientID: load.FanInSubscriber, Count: filled.Acked, Flows: s.plan.Clients, Patience: patience, Within: s.options.within}
	drained, err := d.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return err
	}
	s.add("drain lost", float64(drained.Lost))
	s.addCompared("drain msg/s", drained.Rate())
	s.addCompared("drain CPU us/msg", micros(drained.BrokerCPU)/float64(max(drained.Received, 1)))
	if err := s.run.takeLoad(ctx, s.pr, s.plan, s.options.measured); err != nil {
		return err
	}
	s.addCompared("online msg/s", s.run.MessageRate)
	s.addCompared("online CPU us/msg", s.run.CPUPerMsg)
	s.add("drain to online msg/s", drained.Rate()/max(s.run.MessageRate, 1))
	return nil
}

// count is the number of messages that the broker can keep for one session, if that is less than n.
func (s *stage) count(n uint64) uint64 {
	if most := s.pr.peer.queueMost; most > 0 {
		return min(n, most)
	}
	return n
}

// addFilled notes what it took to fill a store, and by how much memory grew since it was empty bytes.
func (s *stage) addFilled(ctx context.Context, what string, filled load.Filled, empty int64) error {
	n := float64(max(filled.Acked, 1))
	s.add("messages", float64(filled.Acked))
	s.addCompared(what+" msg/s", float64(filled.Acked)/filled.Elapsed.Seconds())
	s.addCompared(what+" CPU us/msg", micros(filled.BrokerCPU)/n)
	now, err := s.settled(ctx)
	if err != nil {
		return err
	}
	s.addCompared(what+" RSS B/msg", float64(now-empty)/n)
	size, err := bytesOf(s.pr.dir)
	if err != nil {
		return err
	}
	s.add(what+" files B/msg", float64(size)/n)
	return nil
}

// settled is the broker's resident memory after a pause.
func (s *stage) settled(ctx context.Context) (int64, error) {
	select {
	case <-time.After(s.options.settle):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	now, _, err := s.pr.memory()
	return now, err
}

// retained measures many retained messages.
func retained(ctx context.Context, s *stage) error {
	empty, err := s.settled(ctx)
	if err != nil {
		return err
	}
	fill := load.Fill{Clients: fillers, Count: s.options.messages, Payload: smallPayload, Window: keptWindow, Retain: true, Within: s.options.within}
	for i := range s.options.messages {
		fill.Names = append(fill.Names, fmt.Sprintf("site/%05d/device/%02d", i/groupSize, i%groupSize))
	}
	filled, err := fill.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return err
	}
	if err := s.addFilled(ctx, "retain", filled, empty); err != nil {
		return err
	}
	s.pr.stop()
	took, err := s.again(ctx)
	if err != nil {
		return err
	}
	s.addCompared("start s", took.Seconds())
	loaded, err := s.settled(ctx)
	if err != nil {
		return err
	}
	n := float64(max(filled.Acked, 1))
	s.addCompared("RSS after start B/msg", float64(loaded-empty)/n)
	if err := s.pr.forgetPeak(); err != nil {
		return err
	}
	all, err := s.subscribe(ctx, "#", filled.Acked)
	if err != nil {
		return err
	}
	_, peak, err := s.pr.memory()
	if err != nil {
		return err
	}
	s.add("# lost", float64(all.Lost))
	s.addCompared("# msg/s", all.Rate())
	s.addCompared("# CPU us/msg", micros(all.BrokerCPU)/float64(max(all.Received, 1)))
	s.add("# RSS peak grows MiB", float64(peak-loaded)/(1<<20))
	for _, narrow := range []struct {
		filter string
		count  uint64
	}{{"site/00005/device/+", groupSize}, {"+/00005/+/07", 1}} {
		few, err := s.subscribe(ctx, narrow.filter, narrow.count)
		if err != nil {
			return err
		}
		s.add(narrow.filter+" lost", float64(few.Lost))
		s.addCompared(narrow.filter+" ms", millis(few.Last))
	}
	return nil
}

// subscribe takes count retained messages.
func (s *stage) subscribe(ctx context.Context, filter string, count uint64) (load.Drained, error) {
	d := load.Drain{ClientID: "new", Clean: true, Filters: []string{filter}, Count: count, Patience: patience, Within: s.options.within}
	return d.Run(ctx, s.pr.addr, s.pr.cpu)
}

// restart measures how a broker comes back after it was killed.
func restart(ctx context.Context, s *stage) error {
	sessions := make([]load.Session, s.options.sessions)
	fill := load.Fill{Clients: fillers, Count: s.options.sessions * perSession, Payload: smallPayload, Window: keptWindow, Within: s.options.within}
	for i := range sessions {
		name := fmt.Sprintf("queue/%06d", i)
		sessions[i] = load.Session{ClientID: fmt.Sprintf("session%06d", i), Filters: []string{name}}
		fill.Names = append(fill.Names, name)
	}
	empty, err := s.settled(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := load.MakeSessions(ctx, s.pr.addr, sessions); err != nil {
		return err
	}
	s.addCompared("sessions made/s", float64(len(sessions))/time.Since(begun).Seconds())
	filled, err := fill.Run(ctx, s.pr.addr, s.pr.cpu)
	if err != nil {
		return err
	}
	if err := s.addFilled(ctx, "queue", filled, empty); err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	s.pr.kill()
	begun = time.Now()
	took, err := s.again(ctx)
	if err != nil {
		return err
	}
	s.addCompared("CONNACK after s", took.Seconds())
	return s.readBack(ctx, sessions, filled.Acked, begun)
}

// readBack takes the messages of some sessions after a start.
func (s *stage) readBack(ctx context.Context, sessions []load.Session, messages uint64, started time.Time) error {
	lost, sample := uint64(0), min(sampleOfLost, len(sessions))
	if messages < uint64(len(sessions))*perSession {
		sample = 1 // the step was cut short, and sessions got less; the first ones got something
	}
	wait := patience
	for i := range sample {
		d := load.Drain{ClientID: sessions[i*len(sessions)/sample].ClientID, Count: min(perSession, messages/uint64(len(sessions))), Patience: wait, Within: s.options.within}
		drained, err := d.Run(ctx, s.pr.addr, s.pr.cpu)
		if err != nil {
			return err
		}
		if i == 0 {
			s.addCompared("a queue read after s", time.Since(started).Seconds())
			if drained.Received == 0 && d.Count > 0 {
				return fmt.Errorf("session %s has lost all of its messages", d.ClientID)
			}
		}
		lost += drained.Lost
		wait = settle // the broker has come to itself by now
	}
	s.add(fmt.Sprintf("lost in %d sessions", sampleOfLost), float64(lost))
	now, err := s.settled(ctx)
	if err != nil {
		return err
	}
	s.addCompared("RSS after start MiB", float64(now)/(1<<20))
	return nil
}

// again starts the broker once more and tells how long it takes from then until it grants a connection.
func (s *stage) again(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	if err := s.pr.spawn(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.within)
	defer cancel()
	err := load.Greet(ctx, s.pr.addr)
	return time.Since(begun), err
}

// save has a broker write all that it has, if it must be told to.
func (s *stage) save() error {
	if s.pr.peer.saves == "" {
		return nil
	}
	told := time.Now()
	if err := s.pr.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	file := filepath.Join(s.pr.dir, s.pr.peer.saves)
	for time.Since(told) < s.options.within {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(told) {
			return nil // it is moved there when it is complete
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s did not write %s", s.pr.peer.name, file)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
