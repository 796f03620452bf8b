// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Command nats serves MQTT with github.com/nats-io/nats-server/v2, configured as its documentation has it: JetStream, which its MQTT needs, in
// a directory of its own, everything else as shipped, nothing logged. It is a peer in the benchmarks.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// readyWithin is how long the server may take to start.
const readyWithin = 10 * time.Second

func main() {
	addr := flag.String("listen", "127.0.0.1:1883", "`address` to listen on for MQTT")
	dir := flag.String("data", ".", "`directory` of JetStream")
	flag.Parse()
	if err := serve(*addr, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
}

// serve runs the server until it is told to end.
func serve(addr, dir string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	o := &server.Options{
		ServerName: "bench", Host: host, Port: server.RANDOM_PORT, // of its own protocol, which nobody uses
		JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
	}
	o.MQTT.Host = host
	if o.MQTT.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(readyWithin) {
		return errors.New("it does not start")
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}
