// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/transport/std"
)

// startBroker runs a broker on a free port, for the examples.
func startBroker() (server string, stop func()) {
	b, err := broker.New(broker.Options{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve("example", listener, std.ListenerOptions{}) // until it is closed
	}()
	return "mqtt://" + listener.Addr().String(), func() {
		listener.Close()
		<-served
		srv.Close()
		b.Shutdown(context.Background())
	}
}

func Example() {
	server, stop := startBroker()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.Dial(ctx, client.Options{Servers: []string{server}, ClientID: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	came := make(chan struct{})
	_, err = c.Subscribe(ctx, client.Subscription{Filter: "home/#", QoS: 1, Handler: func(_ context.Context, m *client.Message) {
		fmt.Printf("%s: %s\n", m.Topic, m.Payload)
		close(came)
	}})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Publish(ctx, client.Message{Topic: "home/lamp", Payload: []byte("on"), QoS: 1}); err != nil {
		log.Fatal(err)
	}
	<-came
	// Output: home/lamp: on
}

// Many messages under way at once, and one wait for all of them.
func ExampleClient_PublishAsync() {
	server, stop := startBroker()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Servers: []string{server}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	var last *client.Token
	for i := range 1000 {
		last, err = c.PublishAsync(ctx, client.Message{Topic: "count", Payload: fmt.Append(nil, i), QoS: 1})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Stats().Inflight, last.Err())
	// Output: 0 <nil>
}

// A program that starts without a network, and loses no message of QoS 1 or 2 when it is ended.
func ExampleNew() {
	c, err := client.New(client.Options{
		Servers:       []string{"mqtts://a.example", "wss://b.example/mqtt"},
		ClientID:      "meter-7",
		SessionExpiry: 24 * time.Hour,
		Directory:     "/var/lib/meter",
		Overflow:      client.DropOldest,
		Subscriptions: []client.Subscription{{Filter: "meter/7/set/#", QoS: 2, Handler: func(_ context.Context, m *client.Message) {
			fmt.Println("set", m.Topic)
		}}},
		OnDisconnected: func(d client.Disconnected) { log.Println("disconnected:", d.Cause, "again in", d.Wait) },
	})
	if err != nil {
		log.Fatal(err)
	}
	c.Start()
	for now := range time.Tick(time.Minute) {
		_, err := c.PublishAsync(context.Background(), client.Message{Topic: "meter/7", Payload: now.AppendFormat(nil, time.RFC3339), QoS: 1})
		if err != nil {
			log.Println(err)
		}
	}
}

// A message is acknowledged when the work is done, on another goroutine.
func ExampleMessage_Ack() {
	server, stop := startBroker()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Servers: []string{server}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	jobs := make(chan *client.Message, 100)
	_, err = c.Subscribe(ctx, client.Subscription{
		Filter: "jobs", QoS: 1, ManualAck: true,
		Handler: func(_ context.Context, m *client.Message) { jobs <- m },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Publish(ctx, client.Message{Topic: "jobs", Payload: []byte("dig"), QoS: 1}); err != nil {
		log.Fatal(err)
	}
	job := <-jobs
	fmt.Printf("%s is done\n", job.Payload)
	job.Ack()
	// Output: dig is done
}

func ExampleClient_Request() {
	server, stop := startBroker()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Servers: []string{server}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	_, err = c.Subscribe(ctx, client.Subscription{Filter: "time", Handler: func(ctx context.Context, m *client.Message) {
		if err := c.Respond(ctx, m, client.Message{Payload: []byte("late")}); err != nil {
			log.Print(err)
		}
	}})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := c.Request(ctx, client.Message{Topic: "time"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer.Payload)
	// Output: late
}
