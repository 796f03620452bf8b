// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/brokertest"
	"github.com/noctule/noctule/client"
	"github.com/noctule/noctule/mqtt"
)

// exercise goes through what a client and a real broker do together. size is that of its largest messages, in bytes.
func exercise(t *testing.T, o client.Options, size int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.ClientID, o.SessionExpiry = "c-"+rand.Text()[:10], time.Hour // 3.1 takes 23 characters
	o.TopicAliasesIn, o.TopicAliasesOut = 10, 10
	fresh := o
	fresh.CleanStart = o.Version == mqtt.V5 // before, its session would end with the connection
	c := dial(t, ctx, fresh)
	got := make(chan *client.Message, 1000)
	handler := func(_ context.Context, m *client.Message) { got <- m }
	receive := func() *client.Message {
		t.Helper()
		select {
		case m := <-got:
			return m
		case <-ctx.Done():
			t.Fatal("the message has not come")
			return nil
		}
	}
	codes, err := c.Subscribe(ctx, client.Subscription{Filter: "x/+/y", QoS: 2, Handler: handler})
	if err != nil || codes[0] != mqtt.GrantedQoS2 {
		t.Fatal(codes, err)
	}
	large := bytes.Repeat([]byte("x"), size)
	for qos := range mqtt.QoS(3) {
		for _, payload := range [][]byte{nil, []byte("small"), large} {
			if err := c.Publish(ctx, client.Message{Topic: "x/topic/y", Payload: payload, QoS: qos}); err != nil {
				t.Fatal(err)
			}
			if m := receive(); m.Topic != "x/topic/y" || m.QoS != qos || !bytes.Equal(m.Payload, payload) {
				t.Fatalf("QoS %d: got %s, QoS %d, %d bytes", qos, m.Topic, m.QoS, len(m.Payload))
			}
		}
	}

	// Many under way at once, in order.
	for i := range 500 {
		if _, err := c.PublishAsync(ctx, client.Message{Topic: "x/many/y", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		if m := receive(); string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Payload)
		}
	}

	// The session waits for its client.
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if o.Version != mqtt.V31 { // which does not tell of the session
		other := o
		other.ClientID += "-other"
		other.CleanStart = true
		p := dial(t, ctx, other)
		if err := p.Publish(ctx, client.Message{Topic: "x/kept/y", Payload: []byte("kept"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		o.Handler = handler
		present := make(chan bool, 1)
		o.OnConnected = func(e client.Connected) { present <- e.SessionPresent }
		c = dial(t, ctx, o)
		if m := receive(); string(m.Payload) != "kept" || !<-present {
			t.Errorf("got %q of the session", m.Payload)
		}
		if _, err := c.Unsubscribe(ctx, "x/+/y"); err != nil {
			t.Error(err)
		}
	}

	// Retained, with properties.
	c2 := dial(t, ctx, func() client.Options {
		o := fresh
		o.ClientID += "-2"
		o.CleanStart, o.SessionExpiry = true, 0
		return o
	}())
	if err := c2.Publish(ctx, client.Message{Topic: "kept/1", Payload: []byte("r"), Retain: true, QoS: 1, ContentType: "text/plain",
		User: []client.UserProperty{{Name: "k", Value: "v"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c2.Subscribe(ctx, client.Subscription{Filter: "kept/#", Handler: handler}); err != nil {
		t.Fatal(err)
	}
	m := receive()
	if !m.Retain || string(m.Payload) != "r" || o.Version == mqtt.V5 && (m.ContentType != "text/plain" || len(m.User) != 1) {
		t.Errorf("the retained message is %+v", m)
	}
	if o.Version == mqtt.V5 {
		respond(t, ctx, c2)
	}
	if err := c2.Flush(ctx); err != nil {
		t.Error(err)
	}
}

// respond makes a request and a response.
func respond(t *testing.T, ctx context.Context, c *client.Client) {
	t.Helper()
	_, err := c.Subscribe(ctx, client.Subscription{Filter: "ask", QoS: 1, Handler: func(ctx context.Context, m *client.Message) {
		if err := c.Respond(ctx, m, client.Message{Payload: append([]byte("re: "), m.Payload...), QoS: 1}); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Request(ctx, client.Message{Topic: "ask", Payload: []byte("why"), QoS: 1})
	if err != nil || string(answer.Payload) != "re: why" {
		t.Errorf("the response is %v, %v", answer, err)
	}
}

// Messages of a shared subscription go to one of its members.
func shared(t *testing.T, o client.Options) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.CleanStart = true
	got := make(chan string, 100)
	for range 2 {
		c := dial(t, ctx, o)
		_, err := c.Subscribe(ctx, client.Subscription{Filter: "$share/group/jobs/+", QoS: 1,
			Handler: func(_ context.Context, m *client.Message) { got <- string(m.Payload) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	p := dial(t, ctx, o)
	for i := range 20 {
		if err := p.Publish(ctx, client.Message{Topic: "jobs/x", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for range 20 {
		select {
		case payload := <-got:
			seen[payload] = true
		case <-ctx.Done():
			t.Fatal("a message has not come")
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d different messages came, want 20", len(seen))
	}
}

func dial(t *testing.T, ctx context.Context, o client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestAgainstOurBroker(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for _, url := range []string{"mqtt://broker", "ws://127.0.0.1:1883"} {
			t.Run(v.String()+" "+url[:2], func(t *testing.T) {
				b := brokertest.New(t, broker.Options{})
				exercise(t, client.Options{
					Servers: []string{url}, Version: v,
					Dial: func(context.Context, string, string) (net.Conn, error) { return b.Dial(), nil },
				}, 600_000)
			})
		}
	}
}

// mosquitto runs Debian's broker on a free port of the loopback address, and gives the URLs of its listeners.
func mosquitto(t *testing.T) (tcp, ws string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
		if _, err := os.Stat(path); err != nil {
			t.Skip("MOSQUITTO IS NOT INSTALLED: nothing of this test was done (apt-get install mosquitto)")
		}
	}
	ports := [2]int{freePort(t), freePort(t)}
	plain := fmt.Sprintf("allow_anonymous true\nlistener %d 127.0.0.1\n", ports[0])
	if start(t, path, plain+fmt.Sprintf("listener %d\nprotocol websockets\n", ports[1]), ports[1]) {
		return fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0]), fmt.Sprintf("ws://127.0.0.1:%d", ports[1])
	}
	t.Log("THIS MOSQUITTO HAS NO WEBSOCKETS: only TCP is tested against it")
	if !start(t, path, plain, ports[0]) {
		t.Fatal("mosquitto does not start")
	}
	return fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0]), ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs mosquitto and waits until the port is open. It reports whether it is.
func start(t *testing.T, path, config string, port int) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // killed, or its exit code tells what is seen anyway: nobody listens
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for range 500 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}

func TestAgainstMosquitto(t *testing.T) {
	tcp, ws := mosquitto(t)
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(v.String()+" tcp", func(t *testing.T) {
			exercise(t, client.Options{Servers: []string{tcp}, Version: v}, 600_000)
		})
		if v != mqtt.V31 { // where each client needs an identifier of its own
			t.Run(v.String()+" shared", func(t *testing.T) { shared(t, client.Options{Servers: []string{tcp}, Version: v}) })
		}
		if ws != "" { // Mosquitto 2.0 stalls on large messages in WebSocket until something else happens to it
			t.Run(v.String()+" ws", func(t *testing.T) { exercise(t, client.Options{Servers: []string{ws}, Version: v}, 1000) })
		}
	}
}
