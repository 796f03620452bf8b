// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type host struct{}

func (host) Logger() *slog.Logger                         { return slog.New(slog.DiscardHandler) }
func (host) Now() time.Time                               { return time.Now() }
func (host) Publish(context.Context, *mqtt.Message) error { return errors.ErrUnsupported }
func (host) Disconnect(string, mqtt.ReasonCode) bool      { return false }

// teller answers questions as told, and counts them.
type teller struct {
	sync.Mutex
	answer Answer
	err    error
	asked  int
	delay  time.Duration
}

func (x *teller) tell(a Answer, err error) {
	x.Lock()
	defer x.Unlock()
	x.answer, x.err = a, err
}

func (x *teller) count() int {
	x.Lock()
	defer x.Unlock()
	return x.asked
}

func (x *teller) load(ctx context.Context) (Answer, error) {
	x.Lock()
	x.asked++
	a, err, d := x.answer, x.err, x.delay
	x.Unlock()
	select {
	case <-time.After(d):
		return a, err
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// run tests a source in virtual time.
func run(t *testing.T, perAccess bool, change func(*Options), f func(t *testing.T, s *Source, x *teller)) {
	synctest.Test(t, func(t *testing.T) {
		o := Defaults()
		if change != nil {
			change(&o)
		}
		if err := o.Check("acl.test"); err != nil {
			t.Fatal(err)
		}
		x := &teller{}
		s := New("acl.test", o, perAccess, func(a *plugin.Access) (Question, error) {
			if a.Client.Username == "bad" {
				return Question{}, errors.New("a value cannot stand there")
			}
			key := a.Client.Username
			if perAccess {
				key += " " + a.Action.String() + " " + a.Topic
			}
			return Question{Key: strings.Clone(key), Load: x.load}, nil
		})
		if err := s.Start(t.Context(), host{}); err != nil {
			t.Fatal(err)
		}
		defer s.Stop(context.Background())
		f(t, s, x)
	})
}

func of(user, topic string, action plugin.Action) *plugin.Access {
	return &plugin.Access{Client: &plugin.Client{Username: user, ID: "c"}, Topic: topic, Action: action}
}

// ask asks as the broker does: from memory, then elsewhere, unless it is about a delivery.
func ask(s *Source, a *plugin.Access) string {
	d := s.Authorize(a)
	if d.Verdict == plugin.Ignore && a.Action != plugin.Receive {
		var err error
		if d, err = s.AuthorizeSlow(context.Background(), a); err != nil {
			return "error"
		}
	}
	return strings.TrimSpace(d.Verdict.String() + " " + d.Rule)
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAllRightsOfAClientAreAskedOnce(t *testing.T) {
	run(t, false, nil, func(t *testing.T, s *Source, x *teller) {
		x.tell(Answer{Rules: []string{"allow publish a/#", "topic read b"}}, nil)
		ann := of("ann", "a/1", plugin.Publish)
		if err := s.Prepare(t.Context(), ann.Client); err != nil {
			t.Error(err)
		}
		for _, c := range [][2]string{{"a/1", "allow acl.test:1"}, {"a/2", "allow acl.test:1"}, {"b", "deny acl.test: no rule allows it"}} {
			ann.Topic = c[0]
			want(t, s.Authorize(ann).Verdict.String()+" "+s.Authorize(ann).Rule, c[1])
		}
		want(t, ask(s, of("ann", "b", plugin.Receive)), "allow acl.test:2") // another connection of the user
		want(t, ask(s, of("ann", "b", plugin.Subscribe)), "allow acl.test:2")
		if n := x.count(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		want(t, ask(s, of("bob", "a/1", plugin.Will)), "allow acl.test:1")
		if n := x.count(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		want(t, ask(s, of("bad", "a/1", plugin.Publish)), "deny acl.test: a value cannot stand there")
	})
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		answer    Answer
		unmatched string
		want      string
	}{
		{Answer{Verdict: plugin.Allow}, "deny", "allow acl.test"},
		{Answer{Verdict: plugin.Deny}, "ignore", "deny acl.test: no rule allows it"},
		{Answer{}, "deny", "deny acl.test: no rule allows it"}, // an empty list of rules allows nothing
		{Answer{}, "ignore", "ignore"},
		{Answer{None: true}, "deny", "ignore"},
		{Answer{Rules: []string{"allow publish other"}}, "deny", "deny acl.test: no rule allows it"},
		{Answer{Rules: []string{"allow publish other"}}, "ignore", "ignore"},
		{Answer{Rules: []string{"deny publish a"}, Verdict: plugin.Allow}, "deny", "deny acl.test:1"},
		{Answer{Rules: []string{"deny publish other"}, Verdict: plugin.Allow}, "deny", "allow acl.test"},
		{Answer{Rules: []string{"allow publish a", "nonsense"}}, "deny", "error"},
		{Answer{Rules: []string{"allow publish a\nallow publish b"}}, "deny", "error"},
	} {
		run(t, false, func(o *Options) { o.Unmatched = c.unmatched }, func(t *testing.T, s *Source, x *teller) {
			x.tell(c.answer, nil)
			want(t, ask(s, of("ann", "a", plugin.Publish)), c.want)
		})
	}
}

// A right that is taken away ends after the time to live, without anybody waiting; where nobody answers, what is known serves for a while,
// then everything is denied.
func TestTimes(t *testing.T) {
	run(t, false, func(o *Options) { o.CacheTTL, o.Stale, o.MaxFailures = time.Minute, 5*time.Minute, 1000 }, func(t *testing.T, s *Source, x *teller) {
		x.tell(Answer{Rules: []string{"allow both a"}}, nil)
		publish, receive := of("ann", "a", plugin.Publish), of("ann", "a", plugin.Receive)
		want(t, ask(s, receive), "deny acl.test: the client's rules are not known now")
		synctest.Wait() // it was asked for in the background
		want(t, ask(s, receive), "allow acl.test:1")
		x.tell(Answer{Rules: []string{"deny both a"}}, nil)
		time.Sleep(50 * time.Second)
		want(t, ask(s, publish), "allow acl.test:1")
		time.Sleep(11 * time.Second)
		want(t, ask(s, publish), "allow acl.test:1")
		synctest.Wait()
		want(t, ask(s, publish), "deny acl.test:1")
		want(t, ask(s, receive), "deny acl.test:1")

		x.tell(Answer{Rules: []string{"allow both a"}}, nil)
		s.Reload(t.Context())
		ask(s, publish)
		synctest.Wait()
		want(t, ask(s, publish), "allow acl.test:1")

		x.tell(Answer{}, errors.New("away"))
		for range 5 {
			time.Sleep(70 * time.Second)
			want(t, ask(s, publish), "allow acl.test:1")
			want(t, ask(s, receive), "allow acl.test:1")
		}
		time.Sleep(20 * time.Second) // 6 min 10 s
		want(t, ask(s, publish), "error")
		want(t, ask(s, receive), "deny acl.test: the client's rules are not known now")
		if err := s.Prepare(t.Context(), publish.Client); err == nil {
			t.Error("a client is let in whose rules are not known")
		}
		x.tell(Answer{Rules: []string{"allow both a"}}, nil)
		time.Sleep(2 * time.Second)
		want(t, ask(s, publish), "allow acl.test:1")
		want(t, ask(s, receive), "allow acl.test:1")
	})
}

// While nobody answers there are few questions, and each ends in time.
func TestAway(t *testing.T) {
	run(t, false, func(o *Options) { o.Timeout, o.MaxFailures, o.RetryAfter = time.Second, 3, time.Minute }, func(t *testing.T, s *Source, x *teller) {
		x.delay = time.Hour
		began := time.Now()
		for i := range 100 {
			want(t, ask(s, of(fmt.Sprint("u", i), "a", plugin.Publish)), "error")
		}
		if n := x.count(); n != 3 {
			t.Errorf("asked %d times, want 3", n)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

func TestEachTopicIsAQuestion(t *testing.T) {
	run(t, true, func(o *Options) { o.CacheSize = 50 }, func(t *testing.T, s *Source, x *teller) {
		if s.AuthorizesReceive() {
			t.Error("deliveries are asked about")
		}
		x.tell(Answer{Verdict: plugin.Allow}, nil)
		if err := s.Prepare(t.Context(), of("ann", "", 0).Client); err != nil || x.count() != 0 {
			t.Error("asked at CONNECT")
		}
		for range 3 {
			want(t, ask(s, of("ann", "a", plugin.Publish)), "allow acl.test")
			want(t, ask(s, of("ann", "b", plugin.Publish)), "allow acl.test")
			want(t, ask(s, of("ann", "a", plugin.Subscribe)), "allow acl.test")
		}
		if n := x.count(); n != 3 {
			t.Errorf("asked %d times, want 3", n)
		}
		x.tell(Answer{Verdict: plugin.Deny}, nil)
		want(t, ask(s, of("ann", "c", plugin.Publish)), "deny acl.test: no rule allows it")
		x.tell(Answer{Verdict: plugin.Allow}, nil)
		time.Sleep(6 * time.Second) // refusals are remembered for a shorter time
		ask(s, of("ann", "c", plugin.Publish))
		synctest.Wait()
		want(t, ask(s, of("ann", "c", plugin.Publish)), "allow acl.test")
		for i := range 1000 {
			ask(s, of("ann", fmt.Sprint("t", i), plugin.Publish))
		}
		if n := len(s.entries); n > 50 {
			t.Errorf("%d answers are remembered, want 50 at most", n)
		}
	})
}

func TestNotStarted(t *testing.T) {
	s := New("acl.test", Defaults(), false, nil)
	if d := s.Authorize(of("a", "b", 0)); d.Verdict != plugin.Deny {
		t.Error(d)
	}
	if _, err := s.AuthorizeSlow(t.Context(), of("a", "b", 0)); err == nil {
		t.Error("it answers")
	}
}

func TestOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"stale is":      func(o *Options) { o.Stale = 25 * time.Hour },
		"unmatched is":  func(o *Options) { o.Unmatched = "allow" },
		"cache_ttl is":  func(o *Options) { o.CacheTTL = 0 },
		"cache_size is": func(o *Options) { o.CacheSize = 0 },
		"timeout is":    func(o *Options) { o.Timeout = 0 },
	} {
		o := Defaults()
		change(&o)
		if err := o.Check("acl.test"); err == nil || !strings.HasPrefix(err.Error(), "acl.test: "+want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestFromMemoryNothingIsAllocated(t *testing.T) {
	x := &teller{answer: Answer{Rules: []string{"allow publish a/#"}}}
	s := New("acl.test", Defaults(), false, func(*plugin.Access) (Question, error) { return Question{Key: "k", Load: x.load}, nil })
	s.Start(t.Context(), host{})
	defer s.Stop(context.Background())
	a := of("ann", "a/b", plugin.Publish)
	want(t, ask(s, a), "allow acl.test:1")
	if n := testing.AllocsPerRun(100, func() { s.Authorize(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
