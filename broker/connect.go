// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/base32"
	"errors"
	"strings"

	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/loop"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/session"
	"github.com/noctule/noctule/store"
)

// login is what a CONNECT asked for; it lives until the connection is open.
type login struct {
	plugin.Login
	terms    session.Terms
	clean    bool
	assigned string
	enhanced bool   // an authentication method was given
	method   string // it
	data     []byte // authentication data
	exchange plugin.Exchange
	waiting  bool        // for the store
	paid     limit.Match // rules that it has paid for
	rules    *limit.Set  // that bind has looked at
}

func (c *connection) receiveConnect(h mqtt.Header, body []byte, cfg *config) error {
	p := &c.sh.connect
	if err := p.Decode(h, body); err != nil {
		c.version = p.Version
		return err
	}
	c.version = p.Version
	if n := p.Properties.CountUser(); n > cfg.limits.MaxUserProperties {
		return &mqtt.Error{Code: mqtt.ImplementationSpecificError, Op: "CONNECT", Err: errTooManyProperties}
	}
	terms, refusal := session.Grant(p, &cfg.offer)
	c.problem = terms.ProblemInfo
	if c.tooMuchForUs() {
		return nil
	}
	if refusal != nil {
		return refusal
	}
	if p.HasWill {
		if err := checkTopic(p.Will.Topic, &cfg.limits); err != nil {
			return err
		}
	}
	info := c.tc.Info()
	l := &login{terms: terms, clean: p.CleanStart}
	l.HasUser, l.HasPass, l.Password = p.HasUsername, p.HasPassword, append([]byte(nil), p.Password...)
	l.method, l.enhanced = p.Properties.String(mqtt.PropAuthenticationMethod)
	l.method = strings.Clone(l.method)
	data, _ := p.Properties.Bytes(mqtt.PropAuthenticationData)
	l.data = append([]byte(nil), data...)
	l.Client = &plugin.Client{ID: string(p.ClientID), Username: string(p.Username), Version: p.Version,
		Listener: info.Listener, Transport: info.Transport(), Remote: info.Remote, LocalPeer: info.LocalPeer, TLS: info.TLS}
	if terms.AssignID {
		l.assigned = c.sh.b.assignID()
		l.Client.ID = l.assigned
	}
	c.login, c.client = l, l.Client
	c.will = c.sh.willOf(p, l.Client)
	if c.keptOut() {
		return nil
	}
	ok := false
	if l.paid, ok = c.payConnect(cfg, &limit.Match{}, false); !ok {
		return nil
	}
	c.authenticate()
	return nil
}

// assignID makes a client identifier that nobody guesses or uses [MQTT-3.2.2-16].
func (b *Broker) assignID() string {
	var raw [15]byte
	b.opts.Random(raw[:])
	return "auto-" + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// granted goes on with a client that may connect: the will is authorized, then the connection moves home.
func (c *connection) granted(id plugin.Identity, anonymous bool) {
	l := c.login
	client := *l.Client
	if id.Username != "" {
		client.Username = id.Username
	}
	client.Groups, client.Grant, client.Anonymous = id.Groups, id.Grant, anonymous
	l.Client, c.client = &client, &client
	if g := client.Grant; g != nil && !g.Expires.IsZero() && !g.Expires.After(c.sh.b.opts.Now()) {
		c.refuse(plugin.LoginExpired, mqtt.NotAuthorized, "the login has ended")
		return
	}
	if _, ok := c.payConnect(c.sh.b.config.Load(), &l.paid, true); !ok {
		return
	}
	if len(c.sh.b.hooks.preparers) == 0 {
		c.authorizeWill()
		return
	}
	var err error
	c.async(deciding, func(ctx context.Context) { err = c.sh.b.prepare(ctx, &client) }, func() {
		if err != nil {
			c.sh.b.log.Warn("a client's rights could not be loaded; it is refused", "client", client.ID, "err", err)
			c.refuse(plugin.ServerUnavailable, mqtt.ServerUnavailable, "")
			return
		}
		c.authorizeWill()
	})
}

// authorizeWill asks about the will, then the connection moves home.
func (c *connection) authorizeWill() {
	if c.will != nil {
		c.will.Message.Username = c.client.Username
		a := plugin.Access{Client: c.client, Action: plugin.Will, Topic: c.will.Message.Topic,
			QoS: c.will.Message.QoS, Retain: c.will.Message.Retain}
		c.decideAccess(a, (*connection).willDecided)
		return
	}
	c.goHome()
}

func (c *connection) willDecided(d plugin.Decision) {
	if c.state != deciding {
		return
	}
	if d.Verdict == plugin.Deny {
		c.sh.b.log.Debug("will denied", "client", c.client.ID, "name", c.will.Message.Topic, "rule", d.Rule)
		c.refuse(plugin.NotAuthorized, mqtt.NotAuthorized, "the will's topic is not allowed")
		return
	}
	c.goHome()
}

func (c *connection) goHome() {
	c.state = claiming
	home := c.sh.b.home(c.client.ID)
	if home == c.sh {
		home.arrive(c)
		return
	}
	c.sh.loop.Cancel(&c.timer)
	c.sh.unlink(c)
	c.sh.alive.Add(-1)
	home.alive.Add(1)
	c.sh = home
	c.known = nil // serials are for one loop
	c.tc.Move(home.loop, (*arrival)(c))
}

// arrival is a connection that comes home.
type arrival connection

func (a *arrival) Run(*loop.Loop) {
	c := (*connection)(a)
	c.sh.link(c)
	c.sh.armConnectTimeout(c)
	if c.state != claiming {
		c.finish()
		return
	}
	c.sh.arrive(c)
}

// arrive gives the client identifier to a connection, after whoever holds it.
func (sh *shard) arrive(c *connection) {
	if sh.draining {
		c.refuse(plugin.ServerShuttingDown, mqtt.ServerShuttingDown, "")
		return
	}
	if c.keptOut() { // by the name that the login gave, or by a ban made meanwhile
		return
	}
	id := sh.identities[c.client.ID]
	limit := sh.b.config.Load().limits.MaxConnections
	if id == nil && limit > 0 && sh.b.connected.Load() >= int64(limit) { // a takeover is welcome all the same
		c.refuse(plugin.TooManyConnections, mqtt.ServerBusy, "")
		return
	}
	if id == nil {
		sh.identities[c.client.ID] = &identity{holder: c}
		c.claim()
		return
	}
	if id.holder.client.Username != c.client.Username {
		c.refuse(plugin.SessionOwner, mqtt.NotAuthorized, "the client identifier belongs to another user")
		return
	}
	if waiting := id.next; waiting != nil {
		id.next = nil
		waiting.refuse(plugin.TakenOver, mqtt.SessionTakenOver, "")
	}
	id.next = c
	id.holder.takenOver()
}

func (c *connection) takenOver() {
	if c.state == open {
		c.sh.b.events.session(c.sh, sessionTakenOver, c.client.ID, plugin.TakenOver)
		c.closeWith(plugin.TakenOver, mqtt.SessionTakenOver, "") // [MQTT-3.1.4-3]
		return
	}
	c.close(plugin.TakenOver, "")
}

// claim asks the store for the session, where one is or shall be kept.
func (c *connection) claim() {
	if !c.bind(c.sh.b.config.Load()) {
		return
	}
	own := &c.login.terms.Limits.OwnMaximum
	*own = c.sh.b.over.window(*own)
	s, l := c.sh.b.store, c.login
	now := c.sh.loop.Now()
	switch known := s.Has(c.client.ID); {
	case (l.terms.Expiry > 0 || known) && c.sh.b.over.on[StoreStrain].Load():
		c.refuse(plugin.Overload, mqtt.ServerBusy, "")
	case l.terms.Expiry > 0 || known && !l.clean:
		expiry := max(1, l.terms.Expiry) // a session that ends with this connection, but is resumed now, stays kept until then
		s.ProposeClaim(&store.Claim{ClientID: c.client.ID, Username: c.client.Username, CleanStart: l.clean,
			Expiry: expiry, Will: c.will, Now: now, Done: claimed, Context: c})
		c.login.waiting = true
	case known:
		s.ProposeDrop(&store.Drop{ClientID: c.client.ID, Username: c.client.Username, Now: now, Done: dropped, Context: c})
		c.login.waiting = true
	default:
		// Nothing waits for the disk, however slow it is. It is safe to ask Has: it tells of what is applied, and nothing that could
		// make a session of this identifier is on its way, since the one who held it before claims, detaches and is done with both
		// before the identifier goes on to the next, and a Tick can only end sessions.
		c.opened(nil)
	}
}

func claimed(cl *store.Claim) {
	c := cl.Context.(*connection)
	c.sh.loop.Post(loop.Func(func(*loop.Loop) { c.claimDone(cl, cl.Err, cl.Wills, cl.Freed) }))
}

func dropped(d *store.Drop) {
	c := d.Context.(*connection)
	c.sh.loop.Post(loop.Func(func(*loop.Loop) { c.claimDone(nil, d.Err, d.Wills, d.Freed) }))
}

func (c *connection) claimDone(cl *store.Claim, err error, wills []store.DueWill, freed []store.Shared) {
	c.login.waiting = false
	c.sh.b.fireWills(wills)
	c.sh.b.freed(freed)
	if err == nil && cl != nil {
		c.kept = newKept(c.sh.b, cl, c.login.terms.Expiry)
	}
	switch {
	case c.state != claiming: // closed meanwhile: what was claimed is handed back
		c.finish()
	case errors.Is(err, store.ErrNotOwner):
		c.refuse(plugin.SessionOwner, mqtt.NotAuthorized, "the session belongs to another user")
	case errors.Is(err, store.ErrFull):
		c.refuse(plugin.QuotaExceeded, mqtt.QuotaExceeded, "no room for another session")
	case err != nil:
		if c.sh.b.storeError(err) {
			c.sh.b.log.Error("a session could not be claimed", "client", c.client.ID, "err", err)
		}
		c.refuse(plugin.StoreFailed, mqtt.ServerUnavailable, "")
	default:
		c.opened(cl)
	}
}

// opened makes the session and answers CONNACK; what was stored goes on from there.
func (c *connection) opened(cl *store.Claim) {
	sh, l := c.sh, c.login
	present := cl != nil && cl.Present
	connack := c.connack(present)
	if limit := l.terms.Limits.MaxPacket; limit != 0 && len(connack) > int(limit) {
		c.refuse(plugin.ReceiverTooSmall, mqtt.PacketTooLarge, "Maximum Packet Size is below that of CONNACK")
		return
	}
	if c.flaps() {
		return
	}
	c.state = open
	c.sess = session.New[tag](l.terms.Limits)
	if l.enhanced {
		c.rarely().reauth = &reauth{method: l.method}
	}
	c.armLoginEnd()
	b := sh.b
	n := b.connected.Add(1)
	for m := b.maxConnected.Load(); n > m && !b.maxConnected.CompareAndSwap(m, n); m = b.maxConnected.Load() {
	}
	sh.tally.connected.Add(1)
	sh.tally.add(ConnectsGranted, 1)
	c.write(connack)
	c.startKeepAlive(l.terms.KeepAlive)
	b.events.opened(c, present)
	if cl != nil {
		c.restore(&cl.Session)
	}
	if cfg := sh.b.config.Load(); l.rules != cfg.rules { // they have changed while it waited for the store
		c.rebind(cfg)
	}
	c.login = nil
	c.tc.Resume()
	c.pump()
	if sh.draining {
		c.leave()
	}
}

func (c *connection) startKeepAlive(interval uint16) {
	c.sh.loop.Cancel(&c.timer)
	if interval == 0 {
		return
	}
	c.keepAlive = int64(interval) * 1_500_000_000
	c.sh.loop.At(&c.timer, c.sh.loop.Now()+c.keepAlive, (*keepAliveTimeout)(c))
}

// connack encodes the CONNACK that grants.
func (c *connection) connack(present bool) []byte {
	l := c.login
	p := mqtt.Connack{SessionPresent: present, Code: mqtt.Success}
	if c.version == mqtt.V5 {
		cfg := c.sh.b.config.Load()
		offer := *c.offering(cfg)
		offer.ReceiveMaximum = l.terms.Limits.OwnMaximum
		p.Properties = l.terms.ConnackProperties(nil, &offer, l.assigned)
		if info := cfg.policy.ResponseInformation; l.terms.ResponseInfo && info != "" {
			p.Properties = mqtt.AppendPropString(p.Properties, mqtt.PropResponseInformation,
				strings.ReplaceAll(info, "%c", c.client.ID))
		}
		if l.enhanced {
			p.Properties = mqtt.AppendPropString(p.Properties, mqtt.PropAuthenticationMethod, l.method)
			if len(l.data) > 0 {
				p.Properties = mqtt.AppendPropBytes(p.Properties, mqtt.PropAuthenticationData, l.data)
			}
		}
	}
	connack := p.Append(nil, c.version)
	if c.version == mqtt.V5 {
		weakness := c.sh.b.config.Load().weakness
		limit := int(l.terms.Limits.MaxPacket)
		if len(weakness) > 0 && (limit == 0 || len(connack)+len(weakness)+3 <= limit) { // [MQTT-3.2.2-20]; the lengths may grow
			p.Properties = append(p.Properties, weakness...)
			connack = p.Append(connack[:0], c.version)
		}
	}
	return connack
}

// refuse ends a connection that was not granted, with a CONNACK where the version is known [MQTT-3.1.4-2].
func (c *connection) refuse(cause plugin.Cause, code mqtt.ReasonCode, detail string) {
	if c.state >= ending {
		return
	}
	if c.version != 0 && c.state != open && c.answerRefusal(code) {
		p := mqtt.Connack{Code: code}
		if c.version == mqtt.V5 && c.problem && detail != "" && !privateRefusal(cause) {
			p.Properties = c.reason(detail, p.Append(nil, c.version))
		}
		c.write(p.Append(nil, c.version))
	}
	c.close(cause, detail)
}

// answerRefusal says whether a refusing CONNACK is in place: before 5.0 a malformed CONNECT gets none [MQTT-3.1.4-1],
// and the code has to have a counterpart.
func (c *connection) answerRefusal(code mqtt.ReasonCode) bool {
	if c.version == mqtt.V5 {
		return true
	}
	switch code {
	case mqtt.UnsupportedProtocolVersion, mqtt.ClientIdentifierNotValid, mqtt.ServerUnavailable, mqtt.ServerBusy,
		mqtt.BadUserNameOrPassword, mqtt.NotAuthorized, mqtt.ServerShuttingDown, mqtt.QuotaExceeded, mqtt.BadAuthenticationMethod,
		mqtt.Banned, mqtt.ConnectionRateExceeded:
		return true
	}
	return false
}

// privateRefusal says that the client is not told why: all refused logins look alike.
func privateRefusal(cause plugin.Cause) bool {
	return cause == plugin.BadCredentials || cause == plugin.AuthenticatorFailed || cause == plugin.SessionOwner
}

// maxPacket is the client's Maximum Packet Size, 0 if it has none or is not known.
func (c *connection) maxPacket() int {
	switch {
	case c.sess != nil:
		return int(c.sess.Limits().MaxPacket)
	case c.login != nil:
		return int(c.login.terms.Limits.MaxPacket)
	}
	return 0
}

// reason gives a Reason String property that keeps the packet within the client's Maximum Packet Size [MQTT-3.2.2-19].
func (c *connection) reason(detail string, packet []byte) mqtt.Properties {
	if len(detail) > 200 {
		detail = strings.ToValidUTF8(detail[:200], "")
	}
	limit := c.maxPacket()
	if limit != 0 && len(packet)+len(detail)+8 > limit {
		return nil
	}
	return mqtt.AppendPropString(nil, mqtt.PropReasonString, detail)
}
