// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package scram

import (
	"context"
	"fmt"

	"github.com/xdg-go/scram"

	"github.com/noctule/noctule/plugin"
)

// maxMessage is the most bytes of a client's message; honest ones have a few hundred.
const maxMessage = 4096

// exchange is one run of the method: client-first and server-first, client-final and server-final.
type exchange struct {
	conv  *scram.ServerConversation
	file  string      // its name, for rules
	asked *credential // whose credentials are checked; nil before client-first
	known bool        // they are those of a user
	ended bool        // refused; nothing goes on from there
}

func newExchange(c *credentials, m Method) (*exchange, error) {
	x := &exchange{file: c.file}
	server, err := m.hash().NewServer(func(name string) (scram.StoredCredentials, error) {
		x.asked, x.known = c.find(m, name)
		return x.asked.stored, nil
	})
	if err != nil {
		return nil, err
	}
	x.conv = server.NewConversation()
	return x, nil
}

// Next takes one step. All refusals look alike to the client: no server error value is sent.
func (x *exchange) Next(_ context.Context, data []byte) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	switch {
	case x.ended:
		return x.refuse("it was refused before")
	case len(data) > maxMessage:
		return x.refuse("the message is too long")
	}
	reply, err := x.conv.Step(string(data))
	switch {
	case err != nil:
		return x.refuse(x.why(err))
	case x.conv.AuthzID() != "" && x.conv.AuthzID() != x.conv.Username():
		return x.refuse("to act for another user is not offered")
	case !x.conv.Done():
		return []byte(reply), false, plugin.Decision{}, plugin.Identity{}, nil
	case !x.conv.Valid() || !x.known:
		return x.refuse(x.why(nil))
	}
	return []byte(reply), true, plugin.Decision{Verdict: plugin.Allow, Rule: x.asked.rule}, plugin.Identity{Username: x.asked.name}, nil
}

// refuse ends the exchange.
func (x *exchange) refuse(why string) ([]byte, bool, plugin.Decision, plugin.Identity, error) {
	x.ended = true
	return nil, true, plugin.Decision{Verdict: plugin.Deny, Rule: why}, plugin.Identity{}, nil
}

// why is the rule for a refusal. Text of err may come from the client; logs quote it.
func (x *exchange) why(err error) string {
	switch {
	case x.asked == nil:
		return fmt.Sprintf("%s: %v", x.file, err)
	case !x.known:
		return x.file + ": unknown user"
	}
	return x.asked.rule
}
