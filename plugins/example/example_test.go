// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package example

import (
	"os"
	"strings"
	"testing"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func TestShout(t *testing.T) {
	f, err := plugin.Lookup("example.shout")
	if err != nil {
		t.Fatal(err)
	}
	p, err := f(nil)
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{"shout/a": "HELLO", "say/a": "hello"} {
		m := &mqtt.Message{Topic: topic, Payload: []byte("hello")}
		if code := p.(plugin.PublishInterceptor).InterceptPublish(&plugin.Client{}, m); code != mqtt.Success {
			t.Errorf("%s: refused with %v", topic, code)
		}
		if string(m.Payload) != want {
			t.Errorf("%s: %q, want %q", topic, m.Payload, want)
		}
	}
}

// The manual for authors shows this plug-in, whole and as it is.
func TestManualShowsIt(t *testing.T) {
	source, err := os.ReadFile("example.go")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\n\n") // after the licence
	if !strings.Contains(string(manual), "```go\n"+code+"```\n") {
		t.Error("docs/plugins.md has other code than example.go")
	}
}
