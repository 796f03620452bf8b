// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

// Command embed serves MQTT with Noctule's broker and nothing around it: a store in memory, or in a directory with -data, the
// standard transport, no admin interface. It is what profiles are taken from: -cpuprofile and -memprofile write them at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/store"
	"github.com/noctule/noctule/transport/std"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:1883", "`address` to listen on")
	cpu := flag.String("cpuprofile", "", "`file` for a processor profile")
	mem := flag.String("memprofile", "", "`file` for a heap profile, taken before the clients are sent away")
	data := flag.String("data", "", "`directory` of the store; in memory if empty")
	flag.Parse()
	if err := run(*addr, *data, *cpu, *mem); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run serves until it is told to end, and profiles.
func run(addr, data, cpu, mem string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if cpu != "" {
		f, err := os.Create(cpu)
		if err != nil {
			return err
		}
		defer f.Close() // the profile is complete by then
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return serve(ctx, addr, data, mem)
}

// serve runs the broker until ctx ends.
func serve(ctx context.Context, addr, data, mem string) error {
	var kept store.Store
	if data != "" {
		var err error
		if kept, err = store.Open(data, store.Options{Limits: broker.DefaultStoreLimits()}); err != nil {
			return err
		}
	}
	l, err := std.Listen(ctx, "tcp", addr, std.ListenOptions{})
	if err != nil {
		return err
	}
	b, err := broker.New(broker.Options{Store: kept})
	if err != nil {
		return err
	}
	server := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	served := make(chan error, 1)
	go func() { served <- server.Serve("bench", l, std.ListenerOptions{}) }()
	select {
	case <-ctx.Done():
	case err := <-served:
		return err
	}
	if err := heapProfile(mem); err != nil {
		return err
	}
	l.Close() // Serve returns
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	b.Drain(grace) // clients that are still there are cut off
	server.Close()
	return b.Shutdown(context.Background())
}

// heapProfile writes what is in use after a collection.
func heapProfile(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GC()
	return pprof.WriteHeapProfile(f)
}
