// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration tree of the server: what options there are, what they mean, and how a file, the
// environment and the command line become one checked Config.
//
// One table (table.go) holds every option with its name, kind, range, default, doc comment and the moment when a change
// takes effect. Reading, printing, the JSON Schema and the reference page are all made from it.
//
// Sources in rising order of precedence: defaults, file, environment, flags. Everything is strict: what is not understood is a
// mistake with its place, and all mistakes are reported, not the first only.
//
// A Config is plain data. Nothing here opens a socket, and files are read only by Load.
package config

import (
	"net/netip"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/attempt"
	"github.com/noctule/noctule/broker/ban"
	"github.com/noctule/noctule/store"
)

// Config is a whole configuration. Make one with Default or Load.
type Config struct {
	Listeners []Listener
	Transport string // TransportAuto, TransportEpoll or TransportStd
	Data      string // folder of what survives a restart; Load fills in the default where the environment names one
	Admin     Admin
	Log       Log
	Auth      Auth
	Plugins   []Plugin
	Limits    Limits
	Memory    string        // the limit; see ParseMemory
	Policy    broker.Policy // AllowAnonymous is auth.anonymous; DurabilityByTopic and WhenFull are store's
	Store     Store
	Alarms    Alarms
	Shutdown  Shutdown

	places map[string]place // where each given option was written, by path
}

// Listener is one address that accepts clients.
type Listener struct {
	Name      string
	Address   string
	Plaintext bool
	ReusePort bool
	TLS       TLS
	Proxy     Proxy
	WebSocket WebSocket

	path string // in the tree, for mistakes
}

// TLS is a listener's certificate and what it asks of clients.
type TLS struct {
	Cert, Key    string // PEM files
	ClientCA     string // PEM file
	ClientCRL    string // PEM or DER file
	ClientAuth   ClientAuth
	MinVersion   string // "1.2" or "1.3"
	UsernameFrom UsernameFrom
}

// What serves connections.
const (
	TransportAuto  = "auto"
	TransportEpoll = "epoll"
	TransportStd   = "std"
)

// ClientAuth says whether clients show a certificate.
type ClientAuth byte

// What is asked of clients.
const (
	NoClientCert ClientAuth = iota
	OptionalClientCert
	RequiredClientCert
)

// UsernameFrom says which name of a client's certificate becomes the user name.
type UsernameFrom byte

// Names in a certificate.
const (
	FromNothing UsernameFrom = iota
	FromCommonName
	FromDNS
	FromEmail
	FromSubject
	FromSerial
)

// Proxy says whose PROXY protocol headers are believed.
type Proxy struct {
	Trusted []string // address ranges
}

// Prefixes are the trusted ranges, parsed.
func (p Proxy) Prefixes() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(p.Trusted))
	for _, s := range p.Trusted {
		if r, err := parsePrefix(s); err == nil { // checked when it was read
			out = append(out, r)
		}
	}
	return out
}

// WebSocket says which paths and pages a listener answers.
type WebSocket struct {
	Paths   []string
	Origins []string
}

// Admin is the HTTP server for health, metrics and profiles.
type Admin struct {
	Address string // "off" disables it
	Expose  bool
	Hosts   []string
}

// Off says that there is no admin server.
func (a Admin) Off() bool { return a.Address == "off" }

// Log is what is logged, and how.
type Log struct {
	Level  string
	Format string
}

// Auth says who may come in without a plug-in vouching for them.
type Auth struct {
	HookTimeout time.Duration
}

// Limits are the broker's, and those that hold before a connection reaches it.
type Limits struct {
	broker.Limits
	MaxConnectionsPerAddress int
}

// Store is what is kept, and how safely.
type Store struct {
	store.Limits
	Durability  store.Durability
	OnDamage    store.OnDamage
	WriteBuffer int64
}

// Alarms are when alarms are raised.
type Alarms struct {
	LoopBlocked time.Duration // 0: never
}

// Shutdown is how the server ends.
type Shutdown struct {
	Timeout time.Duration
}

// Default is the configuration that holds where nothing is configured: loopback only, strangers from this host only.
func Default() *Config {
	return &Config{
		Listeners: []Listener{newListener("localhost:1883")},
		Transport: TransportAuto,
		Admin:     Admin{Address: "127.0.0.1:18083"},
		Log:       Log{Level: "info", Format: "text"},
		Auth:      Auth{HookTimeout: 5 * time.Second},
		Limits:    Limits{Limits: broker.DefaultLimits()},
		Memory:    "auto",
		Policy: broker.Policy{
			SysInterval:   10 * time.Second,
			LoginAttempts: attempt.Policy{Free: 10, Delay: time.Second, Most: 5 * time.Minute},
			Flapping:      ban.FlappingPolicy{Window: time.Minute, For: 5 * time.Minute},
		},
		Store:    Store{Limits: broker.DefaultStoreLimits(), WriteBuffer: 32 << 20},
		Alarms:   Alarms{LoopBlocked: time.Second},
		Shutdown: Shutdown{Timeout: 10 * time.Second},
		places:   map[string]place{},
	}
}

func newListener(address string) Listener {
	return Listener{Address: address, TLS: TLS{MinVersion: "1.2"}, WebSocket: WebSocket{Paths: []string{"/", "/mqtt"}}}
}

// Given says whether an option was set by anybody, and where; path is as in "admin.address".
func (c *Config) Given(path string) (where string, ok bool) {
	p, ok := c.places[path]
	return p.String(), ok
}
