// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// peer is a broker that can be measured.
type peer struct {
	name     string
	settings string // what differs from the broker as shipped
	dir      string // of its module, where it is built
	pkg      string // what is built; empty: it is installed
	source   string // of a program in C, built instead
	binary   string
	version  func(ctx context.Context, binary string) (string, error)
	args     func(launch) ([]string, error)
	env      []string // what is added to the environment
	like     string   // the peer that it is a variant of, if it is one

	queueMost uint64 // messages that it keeps for one session; 0: as many as the scenarios have
	saves     string // file that it writes all to when it gets SIGUSR1; empty: there is nothing to be told

	described string // its version
}

var peers = []peer{
	{
		name: "noctule", dir: "..", pkg: "./cmd/noctule",
		settings: "no configuration file, so with durability sync: fdatasync before PUBACK; `--listen`, `--admin off`, `--data` an empty directory",
		version:  revision,
		args:     noctuleArgs,
	},
	{
		name: "embed", dir: ".", pkg: "./internal/embed",
		settings: "broker and standard transport only, store in memory",
		version:  revision,
		args:     embedArgs,
	},
	{
		name: "mosquitto", binary: "mosquitto",
		settings: "`listener PORT 127.0.0.1`, `allow_anonymous true`, `max_queued_messages 0` (or it drops QoS 1 under load), and for WebSocket " +
			"`protocol websockets`, `socket_domain ipv4` and a second, plain listener, without which it ends; for TLS `certfile`, `keyfile`, `user root` (or it may not read " +
			"them) and `ciphers_tls1.3 TLS_AES_128_GCM_SHA256` (what Go's brokers choose); no persistence, `max_inflight_messages` 20 and `set_tcp_nodelay` false, as shipped",
		version: mosquittoVersion,
		args:    mosquittoWith(""),
	},
	{
		name: "mochi", dir: ".", pkg: "./mochi",
		settings: "hook auth.AllowHook, default capabilities, nothing logged",
		version:  mochiVersion,
		args:     mochiWith(),
	},
	{
		name: nats, dir: ".", pkg: "./nats",
		settings: "its MQTT, with JetStream in an empty directory, which it needs; synchronised every 2 minutes and everything else as shipped, nothing logged",
		version:  moduleVersion("github.com/nats-io/nats-server/v2"),
		args: func(l launch) ([]string, error) {
			return []string{"-listen", fmt.Sprintf("127.0.0.1:%d", l.port), "-data", filepath.Join(l.dir, "data")}, nil
		},
	},

	{
		name: relay, source: "relay/relay.c",
		settings: "no broker, but the floor: a C program that hands the bytes of one client to the other; acknowledgements go from end to end",
		version:  compilerVersion,
		args:     func(l launch) ([]string, error) { return []string{fmt.Sprint(l.port)}, nil },
	},
	{
		name: "noctule-std", dir: "..", pkg: "./cmd/noctule",
		settings: "as noctule, on the portable transport (`transport: std`)",
		version:  revision,
		args:     noctuleArgs,
		env:      []string{"NOCTULE_TRANSPORT=std"},
	},

	{
		name: "mosquitto-shipped", binary: "mosquitto",
		settings: "as mosquitto, and at most 1 000 messages queued for a client, as shipped",
		version:  mosquittoVersion,
		args:     mosquittoWith("max_queued_messages 1000\n"),
	},

	// For the durable scenarios.
	{
		name: "embed-sync", dir: ".", pkg: "./internal/embed",
		settings: "as embed, with its store in a directory and durability sync",
		version:  revision,
		args:     embedSyncArgs,
	},
	{
		name: "noctule-interval", dir: "..", pkg: "./cmd/noctule",
		settings: "as noctule, and durability interval: PUBACK when the system has it, fdatasync within 100 ms",
		version:  revision,
		args:     noctuleArgs,
		env:      []string{"NOCTULE_STORE__DURABILITY=interval"},
	},
	{
		name: "noctule-memory", dir: "..", pkg: "./cmd/noctule",
		settings: "as noctule, and durability memory",
		version:  revision,
		args:     noctuleArgs,
		env:      []string{"NOCTULE_STORE__DURABILITY=memory"},
	},
	{
		name: "mosquitto-autosave", binary: "mosquitto",
		settings: "as mosquitto, and `user root` (or it may not write in our directories), `persistence true`, `autosave_on_changes true`, `autosave_interval 1`: its strongest. It rewrites all that " +
			"it has after each turn of its loop that changed anything, after the PUBACKs of that turn",
		version: mosquittoVersion,
		args:    mosquittoWith("user root\npersistence true\nautosave_on_changes true\nautosave_interval 1\n"),
	},
	{
		name: "mosquitto-persist", binary: "mosquitto",
		settings: "as mosquitto, and `user root`, `persistence true`: it writes all that it has twice an hour, at its end, and when told to (before it is killed)",
		version:  mosquittoVersion,
		args:     mosquittoWith("user root\npersistence true\n"),
		saves:    "mosquitto.db",
	},
	{
		name: "mochi-pebble", dir: ".", pkg: "./mochi",
		settings: "as mochi, and hook storage/pebble in mode sync, 65 535 messages for a session (the most). It synchronises four writes for each message; " +
			"that of the message itself comes after its PUBACK is handed over",
		version:   mochiVersion,
		args:      mochiWith("-store", "pebble", "-inflight", "65535"),
		queueMost: 65_000,
	},
	{
		name: "mochi-bolt", dir: ".", pkg: "./mochi",
		settings:  "as mochi-pebble, and hook storage/bolt instead",
		version:   mochiVersion,
		args:      mochiWith("-store", "bolt", "-inflight", "65535"),
		queueMost: 65_000,
	},
}

const (
	relay = "relay" // the floor: what moving the bytes costs
	nats  = "nats"  // dear above QoS 0, so it is in the plain scenarios only
)

// ours tells whether the peer is a Noctule.
func (p *peer) ours() bool {
	return strings.HasPrefix(p.name, ourselves) || strings.HasPrefix(p.name, "embed")
}

// withProcs is the peer with another GOMAXPROCS.
func (p *peer) withProcs(n string) peer {
	v := *p
	v.like, v.name = p.name, p.name+"@"+n
	v.settings += ", GOMAXPROCS=" + n
	v.env = append(slices.Clone(p.env), "GOMAXPROCS="+n)
	return v
}

// prepare builds or finds the broker's program and asks for its version.
func (p *peer) prepare(ctx context.Context, dir string) (err error) {
	build := func(name string, args ...string) error {
		p.binary = filepath.Join(dir, p.name)
		cmd := exec.CommandContext(ctx, name, append(args, "-o", p.binary, p.pkg+p.source)...)
		cmd.Dir, cmd.Stderr = p.dir, os.Stderr
		return cmd.Run()
	}
	switch {
	case p.source != "":
		err = build("cc", "-O2", "-Wall", "-Wextra")
	case p.pkg != "":
		err = build("go", "build")
	default:
		p.binary, err = exec.LookPath(p.binary)
	}
	if err == nil {
		p.described, err = p.version(ctx, p.binary)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// revision is the commit that our own broker is built from.
func revision(ctx context.Context, _ string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "of unknown commit", nil // the sources need not come from git
	}
	return "commit " + strings.TrimSpace(string(out)), nil
}

// compilerVersion is the first line of what the C compiler says of itself.
func compilerVersion(ctx context.Context, _ string) (string, error) {
	out, err := exec.CommandContext(ctx, "cc", "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return "built by " + line, err
}

// mosquittoVersion reads the first line of the help text, which comes with exit status 3.
func mosquittoVersion(ctx context.Context, binary string) (string, error) {
	out, _ := exec.CommandContext(ctx, binary, "-h").Output()
	line, _, ok := strings.Cut(string(out), "\n")
	if !ok {
		return "", fmt.Errorf("no version in its help")
	}
	return strings.TrimPrefix(line, "mosquitto version "), nil
}

// noctuleArgs runs a server.
func noctuleArgs(l launch) ([]string, error) {
	args := []string{"run", "--admin", "off", "--data", filepath.Join(l.dir, "data")}
	addr := fmt.Sprintf("127.0.0.1:%d", l.port)
	if l.secure == nil {
		return append(args, "--listen", addr), nil
	}
	file := filepath.Join(l.dir, "noctule.yaml")
	conf := fmt.Sprintf("listeners:\n  - address: %q\n    tls: {cert: %q, key: %q}\n", addr, l.secure.cert, l.secure.key)
	return append(args, "--config", file), os.WriteFile(file, []byte(conf), 0o644)
}

// mochiWith makes the arguments of our mochi, with more of them.
func mochiWith(more ...string) func(launch) ([]string, error) {
	return func(l launch) ([]string, error) {
		args := []string{"-listen", fmt.Sprintf("127.0.0.1:%d", l.port), fmt.Sprintf("-ws=%t", l.ws), "-data", l.dir}
		if l.secure != nil {
			args = append(args, "-cert", l.secure.cert, "-key", l.secure.key)
		}
		return append(args, more...), nil
	}
}

// mosquittoWith makes the arguments of mosquitto, with more lines in its configuration.
func mosquittoWith(more string) func(launch) ([]string, error) {
	return func(l launch) ([]string, error) { return mosquittoArgs(l, more) }
}

// mosquittoArgs writes a configuration.
func mosquittoArgs(l launch, more string) ([]string, error) {
	if !strings.Contains(more, "max_queued_messages") {
		more += "max_queued_messages 0\n"
	}
	if l.secure != nil && !strings.Contains(more, "user ") {
		more += "user root\n"
	}
	conf := fmt.Sprintf("persistence_location %s/\n%slistener %d 127.0.0.1\nallow_anonymous true\n", l.dir, more, l.port)
	if l.secure != nil {
		conf += fmt.Sprintf("certfile %s\nkeyfile %s\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n", l.secure.cert, l.secure.key)
	}
	if l.ws { // 2.0.11 ends if it has no other listener, and leaves the loopback address unless told the domain
		plain, err := freePort()
		if err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("socket_domain ipv4\nprotocol websockets\nlistener %d 127.0.0.1\n", plain)
	}
	file := filepath.Join(l.dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return []string{"-c", file}, nil
}

// mochiVersion asks the module file.
var mochiVersion = moduleVersion("github.com/mochi-mqtt/server/v2")

// moduleVersion asks the module file for the version of a module.
func moduleVersion(module string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, _ string) (string, error) {
		out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
		return strings.TrimSpace(string(out)), err
	}
}

// embedArgs has profiles written where they are wanted.
func embedArgs(l launch) ([]string, error) {
	args := []string{"-listen", fmt.Sprintf("127.0.0.1:%d", l.port)}
	if l.profile != "" {
		base := filepath.Join(l.profile, l.name)
		args = append(args, "-cpuprofile", base+".cpu.prof", "-memprofile", base+".mem.prof")
	}
	return args, nil
}

// embedSyncArgs adds a directory for the store.
func embedSyncArgs(l launch) ([]string, error) {
	args, err := embedArgs(l)
	return append(args, "-data", filepath.Join(l.dir, "data")), err
}
