// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

func plugins(ps ...plugin.Plugin) []plugin.Plugin { return ps }

// login is an authenticator that remembers the last login, and lets in who has the password it wants, or everybody.
type login struct {
	want string

	mu   sync.Mutex
	seen string
}

var _ plugin.Authenticator = (*login)(nil)

func (*login) Name() string { return "auth.test" }

func (a *login) Authenticate(_ context.Context, l *plugin.Login) (plugin.Decision, plugin.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = l.Client.Username + " " + string(l.Password)
	if a.want == "" || a.want == string(l.Password) {
		return plugin.Decision{Verdict: plugin.Allow}, plugin.Identity{}, nil
	}
	return plugin.Decision{Verdict: plugin.Deny}, plugin.Identity{}, nil
}

func (a *login) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// rights is an authorizer that denies what has "denied" in its topic.
type rights struct{}

var _ plugin.Authorizer = rights{}

func (rights) Name() string { return "acl.test" }

func (rights) Authorize(a *plugin.Access) plugin.Decision {
	if strings.Contains(a.Topic, "denied") {
		return plugin.Decision{Verdict: plugin.Deny}
	}
	return plugin.Decision{Verdict: plugin.Allow}
}

// dialogue is an authentication method in three steps: the client says its name, the server asks "challenge", the client
// answers "good". In one step it lets in who begins with "good at once".
type dialogue struct{}

const method = "TEST-DIALOGUE"

var _ plugin.EnhancedAuthenticator = dialogue{}

func (dialogue) Name() string   { return "auth.dialogue" }
func (dialogue) Method() string { return method }

func (dialogue) Begin(context.Context, *plugin.Client) (plugin.Exchange, error) {
	return &exchange{}, nil
}

type exchange struct{ asked bool }

func (x *exchange) Next(_ context.Context, data []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	allow, deny := plugin.Decision{Verdict: plugin.Allow}, plugin.Decision{Verdict: plugin.Deny, Code: mqtt.NotAuthorized}
	switch {
	case !x.asked && bytes.Equal(data, []byte("good at once")):
		return nil, true, allow, plugin.Identity{}, nil
	case !x.asked:
		x.asked = true
		return []byte("challenge"), false, plugin.Decision{}, plugin.Identity{}, nil
	case bytes.Equal(data, []byte("good")):
		return []byte("welcome"), true, allow, plugin.Identity{}, nil
	}
	return nil, true, deny, plugin.Identity{}, nil
}
