// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/plugin"
)

func hogTheLoop(*loop.Loop) { time.Sleep(5 * time.Second) }

// Blocked loops raise one alarm, which lasts until the last of them turns again; each is logged once, with where it is blocked.
func TestABlockedLoopIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		observer := &alarmed{make(chan plugin.AlarmEvent, 10)}
		limits := broker.DefaultLimits()
		limits.MaxLoopLag = 0 // that is another alarm
		b := brokertest.New(t, broker.Options{Loops: 2, Limits: &limits, StallAlarm: 2 * time.Second, Plugins: []plugin.Plugin{observer},
			Logger: slog.New(slog.NewTextHandler(&log, nil))})
		b.Loops().Loop(1).Post(loop.Func(hogTheLoop))
		time.Sleep(time.Second)
		b.Loops().Loop(0).Post(loop.Func(hogTheLoop))
		raised := func() bool { return len(b.Alarms()) == 1 && b.Alarms()[0].Name == "loop_blocked" }
		if raised() {
			t.Error("raised too early")
		}
		for _, at := range []struct {
			after time.Duration
			want  bool
		}{{2 * time.Second, true}, {2600 * time.Millisecond, true}, {2 * time.Second, false}} { // until 3 s, 5.6 s (the second is still blocked), 7.6 s
			time.Sleep(at.after)
			if raised() != at.want {
				t.Errorf("%v later the alarms are %+v", at.after, b.Alarms())
			}
		}
		first, second := <-observer.seen, <-observer.seen
		if !first.Raised || second.Raised || first.Name != "loop_blocked" || len(observer.seen) > 0 {
			t.Errorf("observers were told %+v, %+v and %d more", first, second, len(observer.seen))
		}
		b.Stop()
		if n := strings.Count(log.String(), "a loop is blocked"); n != 2 || !strings.Contains(log.String(), "hogTheLoop") {
			t.Errorf("logged %d times:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "a loop turns again"); n != 2 {
			t.Errorf("the end was logged %d times", n)
		}
	})
}

// stubborn is an authenticator that does not answer before it may.
type stubborn struct{ may chan struct{} }

func (stubborn) Name() string { return "test.stubborn" }
func (s stubborn) Authenticate(context.Context, *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	<-s.may
	return plugin.Decision{}, plugin.Identity{}, errors.New("too late")
}

// What pauses a connection is counted while it does, and not when the connection has ended meanwhile.
func TestPausedConnectionsAreCountedByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		b := brokertest.New(t, broker.Options{Plugins: []plugin.Plugin{stubborn{slow}}})
		paused := func() int64 { return b.Stats().Paused[0] } // by a decider
		var ends []net.Conn
		for range 2 {
			c := b.Dial()
			ends = append(ends, c)
			c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"))
		}
		synctest.Wait()
		if n := paused(); n != 2 || broker.PauseReasons[0] != "decider" {
			t.Errorf("%d are paused, want 2", n)
		}
		ends[0].Close()
		time.Sleep(11 * time.Second) // the time for CONNECT
		close(slow)
		synctest.Wait()
		if n := paused(); n != 0 {
			t.Errorf("%d are paused in the end", n)
		}
	})
}
