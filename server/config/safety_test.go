// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

// TestSafety is the matrix of section "What is refused": where a listener is, who may come in, and how.
func TestSafety(t *testing.T) {
	const login, open = "nothing asks for a login", "without TLS"
	tls := ", tls: {cert: a, key: b}"
	names := ", tls: {cert: a, key: b, client_ca: c, client_auth: required, username_from: cn}"
	for _, c := range []struct {
		listener, anonymous string
		authenticated       bool
		want                []string
	}{
		{"address: localhost:1", "loopback", false, nil},
		{"address: 127.0.0.1:1", "loopback", false, nil},
		{"address: 127.3.2.1:1", "loopback", false, nil},
		{"address: \"[::1]:1\"", "loopback", false, nil},
		{"address: \"[::ffff:127.0.0.1]:1\"", "loopback", false, nil},
		{"address: unix:///tmp/s", "loopback", false, nil},
		{"address: localhost:1", "everywhere", false, nil},
		{"address: :1", "loopback", false, []string{login, open}},
		{"address: 0.0.0.0:1", "loopback", false, []string{login, open}},
		{"address: \"[::]:1\"", "loopback", false, []string{login, open}},
		{"address: 192.0.2.1:1", "nowhere", false, []string{login, open}},
		{"address: broker.example:1", "loopback", false, []string{login, open}},
		{"address: localhost.example:1", "loopback", false, []string{login, open}},
		{"address: ws://:1", "loopback", false, []string{login, open}},
		{"address: :1, plaintext: true", "loopback", false, []string{login}},
		{"address: :1, plaintext: true", "nowhere", false, []string{login}},
		{"address: :1, plaintext: true", "everywhere", false, nil},
		{"address: :1", "everywhere", false, []string{open}},
		{"address: :1", "loopback", true, []string{open}},
		{"address: :1, plaintext: true", "loopback", true, nil},
		{"address: tls://:1" + tls, "loopback", false, []string{login}},
		{"address: wss://:1" + tls, "loopback", false, []string{login}},
		{"address: tls://:1" + tls, "loopback", true, nil},
		{"address: wss://:1" + tls, "everywhere", false, nil},
		{"address: tls://:1" + names, "loopback", false, nil},
		{"address: :1" + tls, "loopback", true, []string{open}},               // it takes both
		{"address: :1" + names + ", plaintext: true", "loopback", false, nil}, // without a certificate nobody comes in
	} {
		text := "listeners: [{" + c.listener + "}]\nauth: {anonymous: " + c.anonymous + "}\n"
		found := mustLoad(t, Input{File: "n.yaml", Text: []byte(text)}).Safety(c.authenticated)
		if len(found) != len(c.want) {
			t.Errorf("%s, plug-in %t: got %v, want %q", text, c.authenticated, found, c.want)
			continue
		}
		for i, m := range found {
			if !strings.Contains(m.Problem, c.want[i]) || m.Line != 1 || m.Column == 0 || m.Fix == "" {
				t.Errorf("%s: got %v, want %s and a fix", text, m, c.want[i])
			}
		}
	}
}

func TestSafetySaysWhatToWrite(t *testing.T) {
	found := mustLoad(t, Input{Flags: []Setting{{Flag: "--listen", Option: "listeners", Value: "[{address: \"0.0.0.0:1883\"}]"}}}).Safety(false)
	text := found.Error()
	for _, want := range []string{"--listen", "auth.anonymous: everywhere", "auth.file", "plaintext: true", "--plaintext", "tls://0.0.0.0:1883"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestWarnings(t *testing.T) {
	c := mustLoad(t, Input{File: "f", Text: []byte("listeners: [{address: :1, plaintext: true}]\nauth: {anonymous: everywhere}\nadmin: {address: :2, expose: true}\n")})
	if got := c.Warnings(); len(got) != 3 {
		t.Errorf("got %q", got)
	}
	if got := Default().Warnings(); len(got) != 0 {
		t.Errorf("got %q for the defaults", got)
	}
}
