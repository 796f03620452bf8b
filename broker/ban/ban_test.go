// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package ban

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestFind(t *testing.T) {
	l := New(time.Now)
	for _, b := range []Ban{
		{Kind: Client, Value: "c*"}, {Kind: User, Value: "eve"}, {Kind: Address, Value: "192.0.2.1"}, {Kind: Address, Value: "198.51.100.9/24"},
		{Kind: Address, Value: "2001:db8::/32"}, {Kind: Address, Value: "::ffff:203.0.113.5"}, {Kind: ClientPattern, Value: "bot-*-?"}, {Kind: UserPattern, Value: "t*t"},
	} {
		if _, err := l.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		client, user, address string
		want                  bool
	}{
		{"c*", "", "", true}, {"cx", "", "", false}, {"", "eve", "", true}, {"eve", "", "", false}, {"", "", "192.0.2.1", true}, {"", "", "192.0.2.2", false},
		{"", "", "::ffff:192.0.2.1", true}, {"", "", "198.51.100.200", true}, {"", "", "2001:db8:7::1", true}, {"", "", "2001:db9::1", false}, {"", "", "203.0.113.5", true},
		{"bot-1-x", "", "", true}, {"bot-1-", "", "", false}, {"bot-1-xy-z", "", "", true}, {"bot-é-é", "", "", true}, {"", "tt", "", true}, {"", "t", "", false},
		{"", "", "", false}, {"", "", "fe80::1%eth0", false},
	} {
		if _, got := l.Find(c.client, c.user, addr(c.address)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	all := l.All()
	if len(all) != 8 || all[3].Value != "198.51.100.0/24" || all[4].Value != "2001:db8::/32" || all[5].Value != "203.0.113.5" {
		t.Errorf("all: %+v", all)
	}
	if ok, err := l.Remove(Address, "198.51.100.77/24"); !ok || err != nil {
		t.Error("a range written otherwise is not removed")
	}
	if _, got := l.Find("", "", addr("198.51.100.200")); got {
		t.Error("removed and in force")
	}
	if ok, err := l.Remove(User, "nobody"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestMistakes(t *testing.T) {
	l := New(time.Now)
	for _, b := range []Ban{
		{}, {Kind: "x", Value: "y"}, {Kind: Client}, {Kind: Client, Value: "a\nb"}, {Kind: User, Value: "\xff"}, {Kind: Address, Value: "example.org"},
		{Kind: Address, Value: "192.0.2.0/33"}, {Kind: Client, Value: "x", Reason: "a\x00"}, {Kind: Client, Value: "x", Until: time.Now().Add(-time.Second)},
	} {
		if _, err := l.Add(b); err == nil {
			t.Errorf("%+v was taken", b)
		}
	}
	for i := range MaxPatterns {
		if _, err := l.Add(Ban{Kind: ClientPattern, Value: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Add(Ban{Kind: UserPattern, Value: "one more"}); !errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
	if _, err := l.Add(Ban{Kind: ClientPattern, Value: "7", Reason: "changed"}); err != nil {
		t.Errorf("a change where it is full: %v", err)
	}
}

func TestBansEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(time.Now)
		for i := range MaxPatterns {
			if _, err := l.Add(Ban{Kind: ClientPattern, Value: fmt.Sprint("x", i, "*"), Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		if _, got := l.Find("x1y", "", netip.Addr{}); got || len(l.All()) != 0 {
			t.Error("a ban that ended is in force")
		}
		if _, err := l.Add(Ban{Kind: ClientPattern, Value: "new*"}); err != nil || len(l.byID) != 1 {
			t.Errorf("ended bans leave no room: %v, %d", err, len(l.byID))
		}
	})
}

func open(t *testing.T, dir string) (*List, *strings.Builder) {
	t.Helper()
	log := new(strings.Builder)
	l, err := Open(dir, time.Now, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return l, log
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	want := Ban{Kind: User, Value: "e\u2028v<e>", Until: time.Now().Add(time.Hour).Round(0).UTC(), Reason: "it \"knows\"", By: "operator"}
	if _, err := l.Add(want); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(Ban{Kind: Address, Value: "192.0.2.0/24"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l, _ = open(t, dir)
	all := l.All()
	if len(all) != 2 || all[0].Value != want.Value || all[0].Reason != want.Reason || !all[0].Until.Equal(want.Until) {
		t.Fatalf("read again: %+v", all)
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := l.Remove(User, want.Value); err != nil {
		t.Fatal(err)
	}
	if l, _ = open(t, dir); len(l.All()) != 1 {
		t.Error("what was removed is back")
	}
	// Lines that are damaged are set aside and told; the others are in force.
	path := filepath.Join(dir, FileName)
	text, _ := os.ReadFile(path)
	os.WriteFile(path, append([]byte("{\"kind\":\"client\",\n{\"kind\":\"address\",\"value\":\"x\"}\n\n"), text...), 0o600)
	l, log := open(t, dir)
	aside, _ := os.ReadFile(filepath.Join(dir, DamagedName))
	if len(l.All()) != 1 || !strings.Contains(log.String(), "lines=2") || strings.Count(string(aside), "\n") != 2 {
		t.Errorf("%+v, %s, %s", l.All(), log, aside)
	}
	if _, log = open(t, dir); log.Len() != 0 {
		t.Errorf("it is said again: %s", log)
	}
	os.WriteFile(path, []byte(strings.Repeat("x", 2<<20)), 0o600)
	if _, err := Open(dir, time.Now, slog.Default()); err == nil {
		t.Error("a line without end was read")
	}
	// A directory that cannot be written: the ban is in force, and the caller knows.
	l, _ = open(t, t.TempDir())
	l.file.dir = filepath.Join(dir, "nowhere")
	if _, err := l.Add(Ban{Kind: User, Value: "x"}); err == nil {
		t.Error("it was not written, and nobody said so")
	}
	if _, got := l.Find("", "x", netip.Addr{}); !got {
		t.Error("a ban that is not on disk is not in force")
	}
}

func TestFlapping(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, _ := open(t, dir)
		f, p := NewFlapping(l), FlappingPolicy{Connects: 2, Window: 10 * time.Second, For: time.Minute}
		connects := func(client string, want bool) {
			t.Helper()
			if got, err := f.Connected(p, client); got != want || err != nil {
				t.Errorf("%s: %v, %v", client, got, err)
			}
		}
		connects("a", false)
		connects("a", false)
		connects("b", false)
		time.Sleep(11 * time.Second)
		connects("a", false) // a window of its own
		connects("a", false)
		connects("a", true)
		if _, got := l.Find("a", "", netip.Addr{}); !got {
			t.Error("not banned")
		}
		if _, err := os.Stat(filepath.Join(dir, FileName)); err == nil {
			t.Error("it was written at once")
		}
		time.Sleep(2 * time.Second)
		if again, _ := open(t, dir); len(again.All()) != 1 {
			t.Error("it was not written soon")
		}
		for range 3 {
			f.Connected(p, "b")
		}
		l.Close()
		if again, _ := open(t, dir); len(again.All()) != 2 {
			t.Error("Close did not write what was due")
		}
		for i := range maxFlapping + 1000 {
			f.Connected(p, fmt.Sprint("x", i))
		}
		if len(f.counts) > maxFlapping {
			t.Errorf("%d clients are counted", len(f.counts))
		}
		for range 5 {
			if got, _ := f.Connected(FlappingPolicy{}, "off"); got {
				t.Error("banned though it is off")
			}
		}
	})
}

func TestGlobTakesLittleTime(t *testing.T) {
	began := time.Now()
	glob(strings.Repeat("a*", 50)+"b", strings.Repeat("a", 10_000))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"kind":"address","value":"192.0.2.0/24","made":"2026-01-01T00:00:00Z"}` + "\n{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		for _, b := range l.All() {
			if ok, err := l.Remove(b.Kind, b.Value); !ok || err != nil {
				t.Fatalf("%+v: %v, %v", b, ok, err)
			}
		}
	})
}
