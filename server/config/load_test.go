// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
)

func mustLoad(t *testing.T, in Input) *Config {
	t.Helper()
	c, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLaterSourcesWin(t *testing.T) {
	in := Input{File: "f", Text: []byte("log: {level: warn}\n")}
	steps := []struct {
		add  func()
		want string
	}{
		{func() { in = Input{} }, "info"},
		{func() { in = Input{File: "f", Text: []byte("log: {level: warn}\n")} }, "warn"},
		{func() { in.Environ = []string{"NOCTULE_LOG__LEVEL=error"} }, "error"},
		{func() { in.Flags = []Setting{{Flag: "--log-level", Option: "log.level", Value: "debug"}} }, "debug"},
	}
	for _, s := range steps {
		s.add()
		if got := mustLoad(t, in).Log.Level; got != s.want {
			t.Errorf("got %s, want %s", got, s.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, Input{Environ: []string{
		"NOCTULE_LIMITS__MAX_PACKET=2MiB", "NOCTULE_AUTH__ANONYMOUS_FILE=" + secret, "NOCTULE_POLICY__VALIDATE_PAYLOAD=true",
		"NOCTULE_LIMITS__MAX_SESSION_EXPIRY=2w", "NOCTULE_ADMIN__HOSTS=[a.example, b.example]",
		"NOCTULE_LISTENERS=[{name: one, address: \"127.0.0.1:1\"}, {name: two, address: \"127.0.0.1:2\"}]",
		"NOCTULE_DATA=/d/${env:HOST}", "HOST=h1",
		"NOCTULE_PORT=tcp://10.0.0.1:1883", "NOCTULE_SERVICE_HOST=10.0.0.1", "NOCTULE_PORT_1883_TCP_ADDR=10.0.0.1", "NOCTULE_CONFIG=x", "NOCTULE_LOG__LEVEL=",
	}})
	if c.Limits.MaxPacket != 2<<20 || c.Policy.AllowAnonymous != broker.Nowhere || !c.Policy.ValidatePayload ||
		c.Limits.MaxSessionExpiry != 14*24*time.Hour || len(c.Admin.Hosts) != 2 || c.Data != "/d/h1" {
		t.Errorf("got\n%s", c.YAML())
	}
	if len(c.Listeners) != 2 || c.Listeners[1].Name != "two" {
		t.Errorf("got listeners %+v", c.Listeners)
	}
	if where, ok := c.Given("limits.max_packet"); !ok || where != "$NOCTULE_LIMITS__MAX_PACKET" {
		t.Errorf("got %q, %t", where, ok)
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	for _, c := range []struct{ variable, want string }{
		{"NOCTULE_LOG__LEVL=info", "$NOCTULE_LOG__LEVL: log.levl: unknown option; did you mean NOCTULE_LOG__LEVEL?"},
		{"NOCTULE_LOG__LEVEL=loud", "$NOCTULE_LOG__LEVEL: log.level: \"loud\" is not known here"},
		{"NOCTULE_LIMITS__MAX_PACKET=5", "$NOCTULE_LIMITS__MAX_PACKET: limits.max_packet: 5 has no unit"},
		{"NOCTULE_LISTENERS=localhost:1883", "$NOCTULE_LISTENERS:1:1: listeners: a list of sections is wanted"},
		{"NOCTULE_LISTENERS=[]", "$NOCTULE_LISTENERS:1:1: listeners: nobody can connect"},
		{"NOCTULE_LISTENERS=[{adress: x}]", "$NOCTULE_LISTENERS:1:3: listeners[0].adress: unknown option; did you mean address?"},
		{"NOCTULE_ADMIN__ADDRESS_FILE=/no/such", "$NOCTULE_ADMIN__ADDRESS_FILE: admin.address: open /no/such"},
		{"NOCTULE_ADMIN__EXPOSE=1", "$NOCTULE_ADMIN__EXPOSE: admin.expose: \"1\" is neither true nor false"},
		{"NOCTULE_DATA=${env:GONE}", "$NOCTULE_DATA: data: the environment has no variable GONE"},
	} {
		_, err := Load(Input{Environ: []string{c.variable}})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.variable, err, c.want)
		}
	}
}

func TestFlagMistakesNameTheFlag(t *testing.T) {
	_, err := Load(Input{Flags: []Setting{{Flag: "--admin", Option: "admin.address", Value: "nowhere"}}})
	if err == nil || !strings.HasPrefix(err.Error(), "--admin: admin.address: no port; write nowhere:1883") {
		t.Errorf("got %v", err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load(Input{File: "/no/such/noctule.yaml"})
	if err == nil || !strings.HasPrefix(err.Error(), "/no/such/noctule.yaml: no such file") {
		t.Errorf("got %v", err)
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "v")
	if err := os.WriteFile(path, []byte("from ${env:A} file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := lookup{env: func(name string) (string, bool) { return "${env:B}", name == "A" }, file: readSmall}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$": "$", "${env:A}": "${env:B}", "x${env:A}y${env:A}": "x${env:B}y${env:B}",
		"${file:" + path + "}": "from ${env:A} file", "$${env:A}": "${env:A}", "a$${b": "a${b", "$5": "$5",
	} {
		if got, err := l.expand(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, mostInFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"${", "${env:C}", "${env:}", "${file:" + large + "}", "${other:x}", "${file:" + dir + "}"} {
		if got, err := l.expand(in); err == nil {
			t.Errorf("%q: got %q, want an error", in, got)
		}
	}
}

func TestValuesWithUnits(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1B": 1, "64KB": 64000, "64KiB": 65536, "1.5MiB": 3 << 19, "2GiB": 2 << 30, "1 MB": 1e6} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v", in, got, err)
		}
		if back, err := ParseSize(FormatSize(want)); err != nil || back != want {
			t.Errorf("%d is written %s", want, FormatSize(want))
		}
	}
	for in, want := range map[string]time.Duration{
		"0": 0, "10s": 10 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "-1s": -time.Second,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
		if back, err := ParseDuration(FormatDuration(want)); err != nil || back != want {
			t.Errorf("%s is written %s", want, FormatDuration(want))
		}
	}
	for _, in := range []string{"", "1", "-1B", "MiB", "1e300GiB", "NaNB", "0.5B", "1TB", "+InfB", "9000000000GiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("size %q: got %d", in, got)
		}
	}
	for _, in := range []string{"", "1", "d", "1.5d", "99999999999w", "s", "1y"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("duration %q: got %s", in, got)
		}
	}
}
