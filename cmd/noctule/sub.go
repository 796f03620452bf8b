// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/topic"
)

func init() { verbs = append(verbs, mosquittoSub) }

// mosquittoSub is noctule sub, and mosquitto_sub.
func mosquittoSub() *cobra.Command {
	return newClientCommand('s', "sub -t FILTER [flags]", "Subscribe, and print the messages that come", runSub)
}

// subscriber prints messages until it has seen enough.
type subscriber struct {
	f      *clientFlags
	out    *bufio.Writer
	c      *client.Client
	ctx    context.Context
	left   int // messages still to be printed; negative = without end
	enough chan struct{}
	end    sync.Once
	code   int // written before enough is closed
}

func (f *clientFlags) newSubscriber(ctx context.Context) *subscriber {
	s := &subscriber{f: f, out: bufio.NewWriterSize(f.out, 64<<10), ctx: ctx, left: -1, enough: make(chan struct{})}
	if f.count > 0 {
		s.left = f.count
	}
	return s
}

// stop ends the program, once.
func (s *subscriber) stop(code int) {
	s.end.Do(func() {
		s.code = code
		close(s.enough)
	})
}

func (s *subscriber) stopped() bool {
	select {
	case <-s.enough:
		return true
	default:
		return false
	}
}

func runSub(_ *cobra.Command, f *clientFlags) int {
	ctx, cancel := untilSignal()
	defer cancel()
	o, err := f.options(false)
	if err != nil {
		return f.failed(err)
	}
	s := f.newSubscriber(ctx)
	c, err := s.dial(o)
	if err != nil {
		return f.failed(err)
	}
	defer f.leave(c)
	if f.timeout > 0 {
		timer := time.AfterFunc(f.timeout, func() { s.stop(exitTimeout) })
		defer timer.Stop()
	}
	go s.subscribe()
	select {
	case <-s.enough:
	case <-ctx.Done():
		s.stop(0)
	case <-c.Done():
		return f.failed(c.Err())
	}
	if s.code == exitTimeout {
		f.warn("Timed out")
	}
	return s.code
}

// dial connects. Messages of a session that the server has kept may come before anything is subscribed.
func (s *subscriber) dial(o client.Options) (*client.Client, error) {
	ready := make(chan struct{})
	o.Handler = func(_ context.Context, m *client.Message) {
		<-ready
		s.take(m)
	}
	c, err := client.Dial(s.ctx, o)
	s.c = c
	close(ready)
	return c, err
}

func (s *subscriber) subscribe() {
	f := s.f
	var subs []client.Subscription
	for _, t := range f.topics {
		subs = append(subs, client.Subscription{
			Filter: t, QoS: f.qos, RetainAsPublished: f.retainAsPublished, RetainHandling: f.retainHandling,
			Identifier: f.props.identifier,
		})
	}
	refused := 0
	if len(subs) > 0 {
		subs[0].User = f.props.user["subscribe"]
		codes, err := s.c.Subscribe(s.ctx, subs...)
		for i, code := range codes {
			if code.IsError() {
				refused++
				f.warn("Warning: subscribing to %s failed: %s.", f.topics[i], code)
			}
		}
		if err != nil && codes == nil {
			s.stop(s.lost(err))
			return
		}
	}
	if len(f.unsubscribe) > 0 {
		if _, err := s.c.UnsubscribeWith(s.ctx, f.props.user["unsubscribe"], f.unsubscribe...); err != nil {
			f.warn("Warning: unsubscribing failed: %v", err)
		}
	}
	switch {
	case refused > 0 && refused == len(subs):
		f.warn("All subscription requests were denied.")
		s.stop(exitError)
	case f.exitAfterSubscribe:
		s.stop(0)
	}
}

// lost reports an error of a call, unless it is of our own end.
func (s *subscriber) lost(err error) int {
	if s.ctx.Err() != nil || errors.Is(err, client.ErrClosed) {
		return 0
	}
	return s.f.failed(err)
}

// take decides about a message and prints it.
func (s *subscriber) take(m *client.Message) {
	f := s.f
	if s.stopped() {
		return
	}
	for _, filter := range f.filterOut {
		if topic.Match(filter, m.Topic) {
			return
		}
	}
	if f.removeRetained && m.Retain {
		err := s.c.Publish(s.ctx, client.Message{Topic: m.Topic, QoS: 1, Retain: true})
		if err != nil && s.ctx.Err() == nil {
			f.warn("Warning: the retained message of %s could not be removed: %v", m.Topic, err)
		}
	}
	if f.onlyRetained && !m.Retain {
		s.stop(0)
		return
	}
	if f.noRetain && m.Retain || f.chance > 0 && rand.Float64()*100 >= f.chance {
		return
	}
	f.print(s.out, m, time.Now())
	if err := s.out.Flush(); err != nil {
		f.warn("Error: %v", err)
		s.stop(exitError)
		return
	}
	if s.left--; s.left == 0 {
		s.stop(0)
	}
}
