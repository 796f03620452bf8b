// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Command mochi serves MQTT with github.com/mochi-mqtt/server/v2 as its examples do: everybody may do everything, all
// capabilities as shipped, nothing logged. It is a peer in the benchmarks. -store has it keep sessions and messages, with one of its
// storage hooks, and -inflight raises what it keeps for one session.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"syscall"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:1883", "`address` to listen on")
	ws := flag.Bool("ws", false, "speak WebSocket")
	cert := flag.String("cert", "", "`file` of a certificate; no TLS if empty")
	key := flag.String("key", "", "`file` of its key")
	engine := flag.String("store", "", "storage `hook`: pebble (each write synchronised) or bolt; none if empty")
	dir := flag.String("data", ".", "`directory` of the storage hook")
	inflight := flag.Uint("inflight", 0, "most `messages` for one session, at most 65535; 0 is as shipped")
	flag.Parse()
	config := listeners.Config{ID: "bench", Address: *addr}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			fmt.Fprintln(os.Stderr, "mochi:", err)
			os.Exit(1)
		}
		config.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	if err := serve(config, *ws, *engine, *dir, uint16(min(*inflight, math.MaxUint16))); err != nil {
		fmt.Fprintln(os.Stderr, "mochi:", err)
		os.Exit(1)
	}
}

// serve runs the broker until it is told to end.
func serve(config listeners.Config, ws bool, engine, dir string, inflight uint16) error {
	capabilities := mochi.NewDefaultServerCapabilities()
	if inflight > 0 {
		capabilities.MaximumInflight = inflight
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler), Capabilities: capabilities})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := keep(server, engine, dir); err != nil {
		return err
	}
	var l listeners.Listener = listeners.NewTCP(config)
	if ws {
		l = listeners.NewWebsocket(config)
	}
	if err := server.AddListener(l); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
	return server.Close()
}
