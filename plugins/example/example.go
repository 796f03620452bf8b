// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package example is a plug-in to begin one's own with: it writes the payloads of all messages below shout/ in capitals.
package example

import (
	"bytes"
	"strings"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// Shout is the plug-in.
type Shout struct{}

func init() {
	plugin.Register("example.shout", func(func(any) error) (plugin.Plugin, error) { return Shout{}, nil })
}

// Name is "example.shout".
func (Shout) Name() string { return "example.shout" }

// InterceptPublish changes the message, which is a clone for this purpose. It keeps no state, so that any loop may call it.
func (Shout) InterceptPublish(_ *plugin.Client, m *mqtt.Message) mqtt.ReasonCode {
	if strings.HasPrefix(m.Topic, "shout/") {
		m.Payload = bytes.ToUpper(m.Payload)
	}
	return mqtt.Success
}
