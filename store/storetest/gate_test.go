// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/store/storetest"
)

func TestGatePassesTheSuite(t *testing.T) {
	storetest.Run(t, func(_ testing.TB, o store.Options) store.Store { return storetest.Gate(store.NewMemory(o)) })
}

func TestGateHoldsCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		var got []string
		g.Hold()
		m := &mqtt.Message{Topic: "t", QoS: 1, Payload: []byte("x"), Retain: true}
		g.ProposePublish(&store.Publish{Message: m, Done: func(*store.Publish) { got = append(got, "publish") }})
		g.Barrier(func() { got = append(got, "barrier") })
		g.ProposeTick(&store.Tick{Done: func(*store.Tick) { got = append(got, "tick") }})
		synctest.Wait()
		if n, _ := g.Pending(); len(got) > 0 || n != 3 || g.Stats().Retained != 0 {
			t.Fatalf("%v came through a closed gate, %d pending", got, n)
		}
		g.Release()
		synctest.Wait()
		if len(got) != 3 || got[0] != "publish" || got[1] != "barrier" || got[2] != "tick" || g.Stats().Retained != 1 {
			t.Fatalf("got %v", got)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestGateFailsCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := storetest.Gate(store.NewMemory(store.Options{}))
		broken := errors.New("broken disk")
		var got []error
		note := func(p *store.Publish) { got = append(got, p.Err) }
		m := &mqtt.Message{Topic: "t", QoS: 1, Payload: []byte("x"), Retain: true}
		g.Hold()
		g.ProposePublish(&store.Publish{Message: m, Done: note})
		g.ProposeAck(&store.Ack{})
		g.Fail(broken)
		g.Release()
		g.ProposePublish(&store.Publish{Message: m, Done: note})
		synctest.Wait()
		g.Fail(nil)
		if g.Stats().Retained != 0 {
			t.Fatal("a failed commit was applied")
		}
		g.ProposePublish(&store.Publish{Message: m, Done: note})
		synctest.Wait()
		if len(got) != 3 || got[0] != broken || got[1] != broken || got[2] != nil || g.Stats().Retained != 1 {
			t.Fatalf("got %v", got)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
