// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/topic"
)

// check finds what is wrong between options that are right one by one, and names what has no name.
func (c *Config) check() Mistakes {
	var found Mistakes
	wrong := func(path, problem, fix string) {
		found = append(found, mistake(c.nearestPlace(path), path, problem, fix))
	}
	if c.Limits.MaxConnectPacket > c.Limits.MaxPacket {
		wrong("limits.max_connect_packet", "larger than limits.max_packet ("+FormatSize(int64(c.Limits.MaxPacket))+")",
			"write at most "+FormatSize(int64(c.Limits.MaxPacket))+", or a larger max_packet")
	}
	if s := c.Policy.SysInterval; s > -1e9 && s < 1e8 && s != 0 || s < -1e9 {
		wrong("policy.sys_interval", FormatDuration(s)+" is too short", "write at least 100ms, or -1s for none")
	}
	if c.Policy.SysInterval == 0 {
		wrong("policy.sys_interval", "0 is neither a time nor off", "write 10s, or -1s for none")
	}
	if len(c.Listeners) == 0 {
		wrong("listeners", "nobody can connect without a listener", "remove the line for a listener on localhost:1883")
	}
	c.checkAdmin(wrong)
	c.checkStore(wrong)
	names, addresses := map[string]bool{}, map[string]bool{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.path = fmt.Sprintf("listeners[%d]", i)
		l.check(wrong)
		if l.Name == "" {
			l.Name = l.Address
		}
		if names[l.Name] && l.Name != l.Address {
			wrong(l.path+".name", fmt.Sprintf("a listener is called %q already", l.Name), "write another name")
		}
		a, err := ParseAddress(l.Address)
		if err == nil && addresses[a.HostPort()] && a.Port != "0" {
			wrong(l.path+".address", "a listener has this address already", "write another port")
		}
		if err == nil {
			addresses[a.HostPort()] = true
		}
		names[l.Name] = true
	}
	c.checkRules(wrong)
	return found
}

func (c *Config) checkAdmin(wrong func(path, problem, fix string)) {
	if c.Admin.Off() || c.Admin.Expose || checkAdmin(c.Admin.Address) != nil {
		return
	}
	var a Address
	if a.split(c.Admin.Address) == nil && !a.Loopback() {
		wrong("admin.address", c.Admin.Address+" can be reached from other hosts, and the admin server has no login",
			"write 127.0.0.1:"+a.Port+", or admin.expose: true")
	}
}

// checkStore finds classes of topics that say nothing, or promise what is not kept.
func (c *Config) checkStore(wrong func(path, problem, fix string)) {
	for i, t := range c.Policy.DurabilityByTopic {
		path := fmt.Sprintf("store.durability_by_topic[%d]", i)
		_, given := c.Given(path + ".durability")
		switch {
		case t.Filter == "":
			wrong(path, "has no filter", "write filter: \"telemetry/#\", say")
		case !given:
			wrong(path, "has no durability", "write durability: "+strings.Join(durabilityWords, ", or durability: "))
		case c.Store.Durability == store.InMemory && t.Durability != store.InMemory:
			wrong(path+".durability", fmt.Sprintf("%s cannot be had while store.durability is memory: nothing is written", t.Durability),
				"write store.durability: interval, and durability: memory here for what need not be kept")
		}
	}
}

func checkFilter(s string) error {
	f, err := topic.ParseFilter(s, 0)
	switch {
	case s == "":
		return nil // reported as missing
	case err != nil:
		return &advice{fmt.Sprintf("%q is not a topic filter", s), "write one such as \"telemetry/#\" or \"+/status\""}
	case f.Share != "":
		return &advice{fmt.Sprintf("%q is a shared subscription", s), "write " + f.Filter}
	}
	return nil
}

func (l *Listener) check(wrong func(path, problem, fix string)) {
	if l.Address == "" {
		wrong(l.path, "has no address", "write address: localhost:1883")
		return
	}
	a, err := ParseAddress(l.Address)
	if err != nil {
		return // reported where it was read
	}
	t := &l.TLS
	switch {
	case a.Secure() && t.Cert == "":
		wrong(l.path, a.Scheme+":// needs a certificate", "write tls: {cert: server.crt, key: server.key}")
	case t.Cert != "" && t.Key == "":
		wrong(l.path+".tls.cert", "a certificate without its key", "write tls.key")
	case t.Key != "" && t.Cert == "":
		wrong(l.path+".tls.key", "a key without its certificate", "write tls.cert")
	case t.Cert != "" && (a.Scheme == "tcp" || a.Scheme == "ws"):
		wrong(l.path+".tls.cert", a.Scheme+":// has no TLS", "write "+map[string]string{"tcp": "tls", "ws": "wss"}[a.Scheme]+"://"+a.HostPort()+", or remove tls")
	}
	if t.ClientAuth != NoClientCert && t.ClientCA == "" {
		wrong(l.path+".tls.client_auth", "there is nothing to judge client certificates by", "write tls.client_ca")
	}
	if t.ClientCA != "" && t.ClientAuth == NoClientCert {
		wrong(l.path+".tls.client_ca", "clients are not asked for a certificate", "write tls.client_auth: required")
	}
	if t.ClientCRL != "" && t.ClientAuth == NoClientCert {
		wrong(l.path+".tls.client_crl", "clients are not asked for a certificate", "write tls.client_auth: required")
	}
	if t.UsernameFrom != FromNothing && t.ClientAuth == NoClientCert {
		wrong(l.path+".tls.username_from", "clients are not asked for a certificate", "write tls.client_auth: required")
	}
	l.checkParts(a, wrong)
}

// checkParts finds sections that mean nothing for the address, and ranges that trust everybody.
func (l *Listener) checkParts(a Address, wrong func(path, problem, fix string)) {
	if l.ReusePort && a.Network == "unix" {
		wrong(l.path+".reuse_port", "a Unix socket has no port", "remove reuse_port")
	}
	for i, p := range l.Proxy.Prefixes() {
		if p.Bits() == 0 && a.Network == "tcp" {
			wrong(fmt.Sprintf("%s.proxy.trusted[%d]", l.path, i), p.String()+" trusts everybody to say whose a connection is", "write the addresses of the proxies")
		}
	}
	if len(l.WebSocket.Paths) == 0 && (a.Scheme == "ws" || a.Scheme == "wss") {
		wrong(l.path+".websocket.paths", "no path answers", "write websocket.paths: [\"/mqtt\"]")
	}
}

// Mistake makes an error about an option that names its place.
func (c *Config) Mistake(path, problem, fix string) *Mistake {
	return mistake(c.nearestPlace(path), path, problem, fix)
}

// nearestPlace is where an option was written, or the section that it is missing from.
func (c *Config) nearestPlace(path string) place {
	for path != "" {
		if p, ok := c.places[path]; ok {
			return p
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return place{}
}

// Safety refuses listeners that strangers can reach without a login or without TLS. authenticated says whether any plug-in
// authenticates clients.
func (c *Config) Safety(authenticated bool) Mistakes {
	var found Mistakes
	for i := range c.Listeners {
		l := &c.Listeners[i]
		a, err := ParseAddress(l.Address)
		if err != nil || a.Loopback() {
			continue
		}
		at := c.nearestPlace(l.path + ".address")
		login := authenticated || l.TLS.UsernameFrom != FromNothing || c.Policy.AllowAnonymous == broker.Everywhere
		if !login {
			found = append(found, mistake(at, l.path+".address", reachable(a)+", and nothing asks for a login",
				"write auth.anonymous: everywhere (--anonymous) to let everybody in, or a plug-in such as plugins: [{name: auth.file, path: users.txt}]"))
		}
		if !a.Secure() && !l.Plaintext {
			fix := "write plaintext: true below it (--plaintext), or address: tls://" + a.HostPort() + " with tls.cert and tls.key"
			found = append(found, mistake(at, l.path+".address", reachable(a)+" without TLS", fix))
		}
	}
	return found
}

func reachable(a Address) string {
	if ip, err := netip.ParseAddr(a.Host); a.Host == "" || err == nil && ip.IsUnspecified() {
		return "every host that reaches this one can connect"
	}
	return "other hosts can connect"
}

// Warnings are what is allowed and still worth saying at each start.
func (c *Config) Warnings() []string {
	var out []string
	if c.Policy.AllowAnonymous == broker.Everywhere {
		out = append(out, "anybody who reaches a listener comes in without a login (auth.anonymous: everywhere)")
	}
	if where, given := c.Given("data"); given && c.Store.Durability == store.InMemory {
		out = append(out, fmt.Sprintf("the data directory %q (%s) is not used: store.durability is memory", c.Data, where))
	}
	out = append(out, c.durabilityWarnings()...)
	for _, l := range c.Listeners {
		a, err := ParseAddress(l.Address)
		if err == nil && !a.Loopback() && l.Plaintext && !a.Secure() {
			out = append(out, fmt.Sprintf("listener %s carries passwords and messages in the clear (plaintext: true)", l.Name))
		}
	}
	if !c.Admin.Off() && c.Admin.Expose {
		out = append(out, "the admin server has no login and can be reached at "+c.Admin.Address+" (admin.expose: true)")
	}
	return out
}

// durabilityWarnings name what is not on disk when it is acknowledged.
func (c *Config) durabilityWarnings() []string {
	var out []string
	switch c.Store.Durability {
	case store.InMemory:
		return []string{"messages, sessions and retained messages are in memory only and gone when the broker ends (store.durability: memory)"}
	case store.Interval:
		out = append(out, "a power cut may lose what was acknowledged within the last "+FormatDuration(store.SyncInterval)+" (store.durability: interval)")
	}
	for _, t := range c.Policy.DurabilityByTopic {
		if t.Durability > c.Store.Durability {
			out = append(out, fmt.Sprintf("messages of %s are kept with durability %s (store.durability_by_topic)", t.Filter, t.Durability))
		}
	}
	return out
}
