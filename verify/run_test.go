// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/transport/std"
)

// The test binary plays the broker under test. With "relay" it hands connections on to a broker that is never killed, so that a kill
// cuts connections and nothing is lost; with "forgetful" it is a broker in memory; with "lame" it accepts and says nothing.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "broker-under-test" {
		play(os.Args[2], os.Args[3])
		return
	}
	goleak.VerifyTestMain(m)
}

func play(part, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	if part == "forgetful" {
		b, err := broker.New(broker.Options{})
		if err != nil {
			panic(err)
		}
		srv := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
		panic(srv.Serve("tcp", l, std.ListenerOptions{}))
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		if part == "lame" {
			continue
		}
		go pipe(c, func() (net.Conn, error) { return net.Dial("tcp", part) })
	}
}

// pipe joins a connection with another one until one of them ends.
func pipe(c net.Conn, dial func() (net.Conn, error)) {
	defer c.Close()
	d, err := dial()
	if err != nil {
		return
	}
	defer d.Close()
	go func() {
		io.Copy(d, c)
		d.Close()
	}()
	io.Copy(c, d)
}

// freeAddress is an address of this host on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// short is the options of a run of a few seconds against the part that the test binary plays.
func short(t *testing.T, part string) Options {
	t.Helper()
	address := freeAddress(t)
	o := Defaults()
	o.Command = []string{os.Args[0], "broker-under-test", part, address}
	o.URL = "mqtt://" + address
	o.Rounds, o.Seed, o.Quiet, o.Rate, o.RestartTimeout = 2, 1, time.Second, 200, 5*time.Second
	return o
}

func TestNothingIsBrokenWhereNothingIsLost(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	b := brokertest.New(t, broker.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go pipe(c, func() (net.Conn, error) { return b.Dial(), nil })
		}
	}()
	o := short(t, l.Addr().String())
	var steps []Progress
	o.Progress = func(p Progress) { steps = append(steps, p) }
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	rep.Write(&text)
	if !rep.Kept || rep.Kills != 3 || !strings.Contains(text.String(), "verdict: kept") {
		t.Errorf("kept %t after %d kills:\n%s", rep.Kept, rep.Kills, &text)
	}
	for _, r := range rep.Results {
		if r.Checked == 0 {
			t.Errorf("%s was not checked", r.Promise)
		}
	}
	if len(steps) < 3 || steps[len(steps)-1].Totals.Received == 0 {
		t.Errorf("progress: %+v", steps)
	}
}

func TestForgetfulBrokerIsCaught(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	o := short(t, "forgetful")
	var log bytes.Buffer
	o.Ledger = &log
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Kept {
		t.Error("a broker in memory passes for a durable one")
	}
	for _, r := range rep.Results {
		switch r.Promise {
		case SessionKept, DeliveredOffline, RetainedKept, ExpiryObeyed:
			if r.Violations == 0 || len(r.Examples) == 0 {
				t.Errorf("%s: %d violations, %d examples", r.Promise, r.Violations, len(r.Examples))
			}
		case Intact, NoPhantom, StartsAgain, SessionEnded, ExactlyOnce:
			if r.Violations != 0 {
				t.Errorf("%s: %+v", r.Promise, r.Examples)
			}
		}
	}
	var text bytes.Buffer
	rep.Write(&text)
	for _, want := range []string{"BROKEN", "session present is 0", "and never came", "seed 1", "verdict: BROKEN"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &text)
		}
	}
	for _, want := range []string{"\tKILL KILL\n", "\tSTART\n", "VIOLATION session-kept", "CONNACK present=true", "PUBLISH noctule-verify/"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the ledger does not say %q", want)
		}
	}
	b, err := json.Marshal(rep)
	if err != nil || !bytes.Contains(b, []byte(`"promise":"session-kept"`)) {
		t.Errorf("JSON: %s, %v", b, err)
	}
}

func TestOneProtocolLeavesTheRestUnchecked(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	o := short(t, "forgetful")
	o.Rounds, o.Protocols, o.Signal = 1, []mqtt.Version{mqtt.V311}, Terminate
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		only5 := r.Promise == WillKept || r.Promise == WillWithdrawn || r.Promise == ExpiryObeyed ||
			r.Promise == DeliveredShared || r.Promise == ExactlyOnceShared
		if only5 != (r.Checked == 0) {
			t.Errorf("%s was checked %d times in 3.1.1", r.Promise, r.Checked)
		}
	}
}

func TestCouldNotRun(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name string
		say  func(o *Options)
		want string
	}{
		{"no such program", func(o *Options) { o.Command = []string{"/nowhere/broker"} }, "/nowhere/broker"},
		{"it ends at once", func(o *Options) { o.Command = []string{os.Args[0], "-test.run=^$"} }, "it ended"},
		{"it says nothing", func(o *Options) { o.RestartTimeout = 200 * time.Millisecond }, "no client is let in within 200ms"},
		{"the port is taken", func(o *Options) { o.URL = "mqtt://" + taken.Addr().String() }, "before the broker was started"},
		{"no command", func(o *Options) { o.Command = nil }, "no command"},
		{"not a URL of ours", func(o *Options) { o.URL = "http://localhost" }, "mqtt://HOST:PORT"},
		{"no rounds", func(o *Options) { o.Rounds = 0 }, "one round"},
		{"another signal", func(o *Options) { o.Signal = "HUP" }, "KILL or TERM"},
		{"another protocol", func(o *Options) { o.Protocols = []mqtt.Version{mqtt.V31} }, "3.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := short(t, "lame")
			test.say(&o)
			if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestBrokerThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	marker := t.TempDir() + "/started"
	o := short(t, "forgetful")
	script := fmt.Sprintf("test -e %s && exit 7; touch %[1]s; exec %s", marker, strings.Join(o.Command, " "))
	o.Command = []string{"/bin/sh", "-c", script}
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("there is no shell")
	}
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Kept || rep.Ended == "" || rep.Results[0].Promise != StartsAgain || rep.Results[0].Violations != 1 {
		t.Errorf("got %+v", rep.Results[0])
	}
	var text bytes.Buffer
	rep.Write(&text)
	if !strings.Contains(text.String(), "exit status 7") || !strings.Contains(text.String(), "loss could not be judged") {
		t.Errorf("the report: %s", &text)
	}
}

func TestFinishAndCancel(t *testing.T) {
	t.Parallel()
	o := short(t, "forgetful")
	o.Protocols = []mqtt.Version{mqtt.V311}
	o.Rounds = 1000
	finish := make(chan struct{})
	close(finish)
	o.Finish = finish
	rep, err := Run(t.Context(), o)
	if err != nil || rep.Rounds != 0 {
		t.Errorf("got %+v, %v, want a judgement of no rounds", rep, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.URL = "mqtt://" + freeAddress(t)
	o.Command[3] = strings.TrimPrefix(o.URL, "mqtt://")
	o.Finish, o.Progress = nil, func(p Progress) {
		if p.Totals.Acknowledged > 0 {
			cancel()
		}
	}
	if rep, err := Run(ctx, o); err == nil {
		t.Errorf("got %+v, want an error after the end of the context", rep)
	}
	if c, err := net.Dial("tcp", o.Command[3]); err == nil {
		c.Close()
		t.Error("the broker is left behind")
	}
}
