// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"net"
	"net/netip"

	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

// This file is about who is not asked for a login at all: banned clients, and those that have guessed too often.

// guesser is who tries to log in, as attempts are counted: the user, or where none is named the client.
type guesser struct {
	address netip.Addr
	user    string
	guesses bool // something was given that might be wrong
}

func (c *connection) guesser() guesser {
	g := guesser{address: addressOf(c.tc.Info().Remote), user: "client " + c.client.ID, guesses: true}
	if c.client.Username != "" {
		g.user = "user " + c.client.Username
	}
	if l := c.login; l != nil && !l.HasUser && !l.HasPass && !l.enhanced {
		g.guesses = false
	}
	return g
}

// addressOf is the host part of an address; the zero one for a Unix socket.
func addressOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	default:
		p, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return netip.Addr{}
		}
		return p.Addr().Unmap().WithZone("")
	}
}

// waits says that who guessed too often still has to wait. From any goroutine.
func (b *Broker) waits(g guesser) bool {
	return g.guesses && b.attempts.Wait(b.config.Load().policy.LoginAttempts, g.address, g.user, b.opts.Now()) > 0
}

// mustWait refuses a login without asking anybody where the client has to wait.
func (c *connection) mustWait() bool {
	h := &c.sh.b.hooks
	if len(h.authenticators)+len(h.enhanced) == 0 || !c.sh.b.waits(c.guesser()) {
		return false
	}
	c.refuse(plugin.TooManyAttempts, mqtt.ConnectionRateExceeded, "")
	return true
}

// countLogin counts what a login came to. That an authenticator failed is not the client's doing. From any goroutine.
func (b *Broker) countLogin(g guesser, d plugin.Decision, broken bool) {
	p := b.config.Load().policy.LoginAttempts
	switch {
	case broken || !g.guesses:
	case d.Verdict == plugin.Ignore && b.config.Load().policy.AllowAnonymous == Everywhere: // it comes in without a login
	case d.Verdict == plugin.Allow:
		b.attempts.Succeeded(p, g.address, g.user, b.opts.Now())
	default:
		b.attempts.Failed(p, g.address, g.user, b.opts.Now())
	}
}

// keptOut refuses a client that is banned.
func (c *connection) keptOut() bool {
	x, banned := c.sh.b.bans.Find(c.client.ID, c.client.Username, addressOf(c.tc.Info().Remote))
	if banned {
		c.closeBanned(&x)
	}
	return banned
}

// closeBanned ends or refuses a connection because of a ban. An open one is told 0x98: 0x8A is for CONNACK only (section 3.14.2.1).
func (c *connection) closeBanned(x *ban.Ban) {
	detail := "the " + string(x.Kind) + " is banned"
	if c.state == open {
		c.closeWith(plugin.Banned, mqtt.AdministrativeAction, detail)
		return
	}
	c.refuse(plugin.Banned, mqtt.Banned, detail)
}

// flaps counts a connect that is about to be granted, and refuses it if it is one too many.
func (c *connection) flaps() bool {
	b := c.sh.b
	p := b.config.Load().policy.Flapping
	banned, err := b.flapping.Connected(p, c.client.ID)
	if err != nil {
		b.log.Warn("a client that connects too often cannot be banned", "client", c.client.ID, "err", err)
	}
	if !banned {
		return false
	}
	b.log.Warn("a client connected too often and is banned for a time", "client", c.client.ID, "remote", c.tc.Info().Remote, "connects", p.Connects,
		"within", p.Window, "banned_for", p.For)
	c.closeBanned(&ban.Ban{Kind: ban.Client})
	return true
}

// Ban keeps clients out, and ends the connections of those that are in. It gives the ban as it is in force. An error says that it is not in
// force, or not on disk.
func (b *Broker) Ban(x ban.Ban) (ban.Ban, error) {
	made, err := b.bans.Add(x)
	for _, sh := range b.shards {
		sh.loop.Post(loop.Func(func(*loop.Loop) { sh.endBanned() }))
	}
	return made, err
}

// endBanned ends the connections on this loop that a ban is about.
func (sh *shard) endBanned() {
	sh.each(func(c *connection) {
		if c.client != nil && c.state < ending {
			c.keptOut()
		}
	})
}

// Unban lifts a ban, and reports whether there was one. An error says that it is not lifted on disk.
func (b *Broker) Unban(kind ban.Kind, value string) (bool, error) { return b.bans.Remove(kind, value) }

// Bans lists the bans in force.
func (b *Broker) Bans() []ban.Ban { return b.bans.All() }
