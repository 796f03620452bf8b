// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"time"

	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
)

var errTooManyProperties = errors.New("too many user properties")

// authenticate asks whether a CONNECT is granted.
func (c *connection) authenticate() {
	b, l := c.sh.b, c.login
	switch {
	case c.mustWait(): // refused
	case l.enhanced:
		x := b.hooks.enhanced[l.method]
		if x == nil { // [MQTT-4.12.0-1]
			c.refuse(plugin.AuthenticationMethod, mqtt.BadAuthenticationMethod, "unknown authentication method")
			return
		}
		c.exchange(x, l.data)
	case len(b.hooks.authenticators) > 0:
		var d plugin.Decision
		var id plugin.Identity
		var broken bool
		g := c.guesser()
		c.async(deciding, func(ctx context.Context) {
			if b.waits(g) { // others of its kind failed while it waited for a worker
				d = plugin.Decision{Verdict: plugin.Deny, Code: mqtt.ConnectionRateExceeded}
				return
			}
			d, id, broken = b.askAuthenticators(ctx, &l.Login)
			b.countLogin(g, d, broken)
		}, func() { c.authenticated(d, id, broken) })
	default:
		c.state = deciding
		c.authenticated(plugin.Decision{}, plugin.Identity{}, false)
	}
}

// async runs a job that may block on a worker and then goes on, on the connection's loop, unless the connection has left the state
// by then. Meanwhile nothing is read.
func (c *connection) async(s state, job func(context.Context), then func()) {
	c.state = s
	c.stop(holdDecider)
	done := loop.Func(func(*loop.Loop) {
		if c.state != s {
			return
		}
		c.release(holdDecider)
		then()
		if c.hold == 0 && c.state != gone && c.state != claiming { // on its way home it resumes there
			c.tc.Resume()
		}
	})
	if !c.sh.loop.Async(job, done) {
		c.release(holdDecider)
		c.overloaded()
	}
}

// overloaded refuses what the worker pool has no room for.
func (c *connection) overloaded() {
	if c.state == open {
		c.closeWith(plugin.ServerUnavailable, mqtt.ServerBusy, "")
		return
	}
	c.refuse(plugin.ServerUnavailable, mqtt.ServerBusy, "")
}

// askAuthenticators asks in order; the first decisive answer stands. broken says that one failed, which denies. On a worker goroutine.
func (b *Broker) askAuthenticators(ctx context.Context, l *plugin.Login) (d plugin.Decision, id plugin.Identity, broken bool) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	defer cancel()
	failed := true
	func() {
		defer b.guard("authenticate", &failed)
		for _, x := range b.hooks.authenticators {
			var err error
			if d, id, err = x.Authenticate(ctx, l); err != nil {
				b.log.Warn("an authenticator failed; the login is refused", "client", l.Client.ID, "err", err)
				d, broken = denied("error"), true
			}
			if d.Verdict != plugin.Ignore {
				break
			}
		}
		failed = false
	}()
	if failed {
		d, broken = denied("panic"), true
	}
	return d, id, broken
}

// authenticated goes on after the authenticators; Ignore means that none was decisive.
func (c *connection) authenticated(d plugin.Decision, id plugin.Identity, broken bool) {
	switch {
	case d.Verdict == plugin.Deny && d.Code == mqtt.ConnectionRateExceeded:
		c.refuse(plugin.TooManyAttempts, d.Code, "")
	case d.Verdict == plugin.Allow:
		c.granted(id, false)
	case d.Verdict == plugin.Ignore && c.anonymousWelcome():
		c.granted(plugin.Identity{}, true)
	default:
		code := mqtt.BadUserNameOrPassword
		if !c.login.HasUser && !c.login.HasPass {
			code = mqtt.NotAuthorized
		}
		if d.Code != 0 && d.Code != mqtt.NotAuthorized {
			code = d.Code
		}
		cause := plugin.BadCredentials
		if broken {
			cause = plugin.AuthenticatorFailed
		}
		c.refuse(cause, code, d.Rule)
	}
}

// anonymousWelcome judges a client that nobody vouches for, by the real address of its socket.
func (c *connection) anonymousWelcome() bool {
	b := c.sh.b
	switch b.config.Load().policy.AllowAnonymous {
	case Everywhere:
		return true
	case LoopbackOnly:
		return len(b.hooks.authenticators)+len(b.hooks.enhanced) == 0 && c.tc.Info().LocalPeer
	}
	return false
}

// exchange takes one step of an enhanced authentication, at CONNECT or later.
func (c *connection) exchange(x plugin.EnhancedAuthenticator, data []byte) {
	b, client := c.sh.b, c.client
	again := c.state == open
	ex := c.exchangeOf(again)
	var step exchangeStep
	g := c.guesser()
	job := func(ctx context.Context) {
		step = b.exchangeStep(ctx, x, *ex, client, data)
		if step.done || step.refused() {
			b.countLogin(g, step.d, step.broken)
		}
	}
	then := func() {
		*ex = step.exchange
		if again {
			c.reauthenticated(step)
			return
		}
		c.exchanged(step)
	}
	next := deciding
	if again {
		next = open
	}
	c.async(next, job, then)
}

// exchangeOf is where the exchange at hand is kept.
func (c *connection) exchangeOf(again bool) *plugin.Exchange {
	if again {
		return &c.rare.reauth.exchange
	}
	return &c.login.exchange
}

// exchangeStep is what an exchange answered.
type exchangeStep struct {
	exchange plugin.Exchange
	reply    []byte
	done     bool
	d        plugin.Decision
	id       plugin.Identity
	broken   bool // the method failed, which refuses
}

// refused says that the exchange has ended badly: it ends well only by a clear Allow.
func (s *exchangeStep) refused() bool {
	return s.d.Verdict == plugin.Deny || s.done && s.d.Verdict != plugin.Allow
}

func (b *Broker) exchangeStep(ctx context.Context, x plugin.EnhancedAuthenticator, ex plugin.Exchange, client *plugin.Client, data []byte) (s exchangeStep) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.HookTimeout)
	defer cancel()
	failed := true
	func() {
		defer b.guard("authenticate", &failed)
		var err error
		if ex == nil {
			if ex, err = x.Begin(ctx, client); err != nil {
				return
			}
		}
		s.exchange = ex
		s.reply, s.done, s.d, s.id, err = ex.Next(ctx, data)
		failed = err != nil
	}()
	if failed {
		s.done, s.d, s.broken = true, denied("error"), true
	}
	return s
}

// exchanged goes on after a step at CONNECT.
func (c *connection) exchanged(s exchangeStep) {
	switch {
	case s.refused(): // [MQTT-4.12.0-4]
		code := s.d.Code
		if code == 0 {
			code = mqtt.NotAuthorized
		}
		cause := plugin.BadCredentials
		if s.broken {
			cause = plugin.AuthenticatorFailed
		}
		c.refuse(cause, code, "")
	case s.done:
		c.login.data = s.reply
		c.granted(s.id, false)
	default: // [MQTT-4.12.0-2]
		c.state = asking
		c.writeAuth(mqtt.ContinueAuthentication, c.login.method, s.reply)
	}
}

func (c *connection) writeAuth(code mqtt.ReasonCode, method string, data []byte) {
	p := mqtt.Auth{Code: code, Properties: mqtt.AppendPropString(nil, mqtt.PropAuthenticationMethod, method)}
	if len(data) > 0 {
		p.Properties = mqtt.AppendPropBytes(p.Properties, mqtt.PropAuthenticationData, data)
	}
	c.write(p.Append(nil, c.version))
}

// reauth is a re-authentication on its way.
type reauth struct {
	method   string // of the CONNECT
	exchange plugin.Exchange
	running  bool
}

// receiveAuth takes an AUTH: the next step of the exchange at CONNECT, or of a re-authentication (section 4.12.1).
func (c *connection) receiveAuth(h mqtt.Header, body []byte) error {
	p := &c.sh.auth
	if err := p.Decode(h, body, c.version); err != nil {
		return err
	}
	if err := p.CheckClient(); err != nil {
		return err
	}
	method, _ := p.Properties.String(mqtt.PropAuthenticationMethod)
	data, _ := p.Properties.Bytes(mqtt.PropAuthenticationData)
	data = append([]byte(nil), data...)
	bad := &mqtt.Error{Code: mqtt.ProtocolError, Op: "AUTH"}
	if c.state == asking {
		if p.Code != mqtt.ContinueAuthentication || method != c.login.method { // [MQTT-4.12.0-3, MQTT-4.12.0-5]
			bad.Err = errors.New("unexpected reason code or authentication method")
			return bad
		}
		c.exchange(c.sh.b.hooks.enhanced[method], data)
		return nil
	}
	var r *reauth
	if c.rare != nil {
		r = c.rare.reauth
	}
	if r == nil || method != r.method { // [MQTT-4.12.0-7, MQTT-4.12.1-1]
		bad.Err = errors.New("no such authentication method at CONNECT")
		return bad
	}
	if start := p.Code == mqtt.ReAuthenticate; start == r.running {
		bad.Err = errors.New("unexpected reason code")
		return bad
	}
	r.running = true
	c.exchange(c.sh.b.hooks.enhanced[method], data)
	return nil
}

// reauthenticated goes on after a step of a re-authentication; refusal ends the connection [MQTT-4.12.1-2].
func (c *connection) reauthenticated(s exchangeStep) {
	switch {
	case s.refused() || s.done && s.id.Username != "" && s.id.Username != c.client.Username:
		c.closeWith(plugin.ReauthenticationFailed, mqtt.NotAuthorized, "")
	case s.done:
		r := c.rare.reauth
		r.exchange, r.running = nil, false
		client := *c.client
		client.Groups, client.Grant = s.id.Groups, s.id.Grant
		c.client = &client
		c.armLoginEnd()
		c.rebind(c.sh.b.config.Load()) // groups may have changed
		c.writeAuth(mqtt.Success, r.method, s.reply)
	default:
		c.writeAuth(mqtt.ContinueAuthentication, c.rare.reauth.method, s.reply)
	}
}

// furthestEnd is from when on the end of a login is as good as none.
const furthestEnd = 100 * 365 * 24 * time.Hour

// armLoginEnd has the connection end with its login. It belongs to an open connection; a re-authentication sets it anew.
func (c *connection) armLoginEnd() {
	g := c.client.Grant
	if g == nil || g.Expires.IsZero() || g.Expires.Sub(c.sh.b.opts.Now()) > furthestEnd {
		if c.rare != nil {
			c.sh.loop.Cancel(&c.rare.loginEnd)
		}
		return
	}
	c.sh.loop.At(&c.rarely().loginEnd, g.Expires.UnixNano(), (*loginEnd)(c))
}

// loginEnd ends a connection whose login has ended. That a re-authentication is under way does not put it off: the client had its time.
type loginEnd connection

func (e *loginEnd) Run(*loop.Loop) {
	c := (*connection)(e)
	if c.state == open {
		c.closeWith(plugin.LoginExpired, mqtt.NotAuthorized, "the login has ended")
	}
}

// decideAccess asks the authorizers about an access that is not on the hot path, and goes on with then, at once or
// after those that may block.
func (c *connection) decideAccess(a plugin.Access, then func(*connection, plugin.Decision)) {
	d, undecided := c.sh.b.decide(&a)
	if !undecided {
		then(c, d)
		return
	}
	c.async(c.state, func(ctx context.Context) { d = c.sh.b.decideSlow(ctx, &a) }, func() { then(c, d) })
}
