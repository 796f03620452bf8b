// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
)

func TestMemoryKeepsForPersistentSession(t *testing.T) {
	s := store.NewMemory(store.Options{})
	done := make(chan struct{}, 1)
	wait := func() { <-done }
	c := &store.Claim{ClientID: "c", Expiry: 60, Now: 1, Done: func(*store.Claim) { done <- struct{}{} }}
	s.ProposeClaim(c)
	wait()
	if c.Err != nil || c.Present {
		t.Fatal(c.Err, c.Present)
	}
	sub := &store.Subscribe{Owner: c.Owner, Subscriptions: []store.Subscription{{Filter: "a/#", QoS: 1}, {Filter: "a/+", QoS: 1}}, Done: func(*store.Subscribe) { done <- struct{}{} }}
	s.ProposeSubscribe(sub)
	wait()
	p := &store.Publish{Message: &mqtt.Message{Topic: "a/b", QoS: 1, Payload: []byte("x"), Retain: true}, Done: func(*store.Publish) { done <- struct{}{} }}
	s.ProposePublish(p)
	wait()
	after := make([]store.Position, s.Groups())
	d, more, err := s.OpenQueue(c.Owner).Read(after, 10, 1000, 2, nil)
	if len(d) != 1 || more || err != nil || len(d[0].Filters) != 2 {
		t.Fatal(d, more, err)
	}
	r, _, _ := s.RetainedPage("#", "", 10, 1000, 2, nil)
	if len(r) != 1 {
		t.Fatal(r)
	}
	s.ProposeAck(&store.Ack{Owner: c.Owner, Refs: []store.Ref{p.Ref}})
	s.Barrier(func() { done <- struct{}{} })
	wait()
	if q, _ := s.Sessions("", 10); q[0].Queued != 0 {
		t.Fatal(q)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
