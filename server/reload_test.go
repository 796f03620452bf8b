// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/server/config"
)

// rereader is a plug-in that counts its reloads.
type rereader struct {
	reloads int
	err     error
}

func (*rereader) Name() string                   { return "test.rereader" }
func (r *rereader) Reload(context.Context) error { r.reloads++; return r.err }

// counting is what the factory gives; a test that uses it makes a new one.
var counting *rereader

func init() {
	plugin.Register("test.rereader", func(func(any) error) (plugin.Plugin, error) { return counting, nil })
}

func TestReload(t *testing.T) {
	counting = &rereader{}
	base := local + "plugins: [{name: test.rereader}]\n"
	text := base
	first := load(t, base)
	dir := first.Data
	r := start(t, Options{
		Config: first,
		Load: func() (*config.Config, error) {
			return config.Load(config.Input{File: "noctule.yaml", Text: []byte(text), Environ: []string{"STATE_DIRECTORY=" + dir}})
		},
	})
	reload := func(now string) error { text = now; return r.Reload(t.Context()) }

	if err := reload(base + "log: {level: debug}\nlimits: {max_packet: 2MiB}\nauth: {anonymous: nowhere}\nstore: {max_sessions: 7}\n"); err != nil {
		t.Fatal(err)
	}
	if got := r.broker.Limits().MaxPacket; got != 2<<20 {
		t.Errorf("got max_packet %d", got)
	}
	if code := connect(t, dial(t, "tcp", r.address())); code == 0 {
		t.Error("auth.anonymous: nowhere is not in force")
	}
	if counting.reloads != 1 {
		t.Errorf("the plug-in was reloaded %d times", counting.reloads)
	}
	for _, want := range []string{
		"option changed\" option=log.level from=info to=debug takes_effect=live",
		"option=limits.max_packet from=1MiB to=2MiB takes_effect=\"next connection\"",
		"it takes effect at the next start\" option=store.max_sessions",
	} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("%s is not logged:\n%s", want, r.out)
		}
	}

	if r.level.Level() != slog.LevelDebug {
		t.Errorf("got log level %s", r.level.Level())
	}

	before := r.Config()
	for _, wrong := range []string{
		base + "limits: {max_paket: 1MiB}\n", base + "log: [\n", strings.Replace(base, "test.rereader", "test.rereadr", 1),
		strings.Replace(base, "127.0.0.1:0\"}]\nplugins", "0.0.0.0:0\"}]\nplugins", 1),
	} {
		if err := reload(wrong + "#"); err == nil {
			t.Errorf("no error for\n%s", wrong)
		}
	}
	counting.err = errors.New("unreadable")
	if err := reload(base); err == nil || !strings.Contains(err.Error(), "unreadable") {
		t.Errorf("got %v, want the plug-in's error", err)
	}
	if r.Config() != before || r.broker.Limits().MaxPacket != 2<<20 {
		t.Error("a failed reload changed something")
	}
	counting.err = nil
	if err := reload(base); err != nil {
		t.Fatal(err)
	}
	if got := r.broker.Limits().MaxPacket; got != broker.DefaultLimits().MaxPacket {
		t.Errorf("got max_packet %d, want the default again", got)
	}
}

func TestReloadWithoutSource(t *testing.T) {
	r := start(t, Options{Config: load(t, local)})
	if err := r.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

// Rules of limits hold for who is connected as soon as they are read.
func TestReloadOfRules(t *testing.T) {
	text := local
	first := load(t, text)
	dir := first.Data
	r := start(t, Options{
		Config: first,
		Load: func() (*config.Config, error) {
			return config.Load(config.Input{File: "noctule.yaml", Text: []byte(text), Environ: []string{"STATE_DIRECTORY=" + dir}})
		},
	})
	text = local + "limits: {rules: [{name: few, per: address, connects: 1, connects_burst: 2}]}\n"
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	codes := ""
	for range 4 {
		codes += fmt.Sprint(connect(t, dial(t, "tcp", r.address())))
	}
	if codes != "00159159" {
		t.Errorf("reason codes %s, want 0x9F from the third on", codes)
	}
	for _, want := range []string{"option=limits.rules from=\"0 entries\" to=\"1 entries\" takes_effect=live",
		"a limit was reached\" rule=few action=connect_refused"} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("%s is not logged:\n%s", want, r.out)
		}
	}
	text = local
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := connect(t, dial(t, "tcp", r.address())); code != 0 {
		t.Errorf("without the rule: return code %d", code)
	}
}
