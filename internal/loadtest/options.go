// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/topic"
)

// Mode is what the clients do.
type Mode string

// The modes.
const (
	Conn Mode = "conn" // connect, and stay
	Pub  Mode = "pub"  // publish
	Sub  Mode = "sub"  // subscribe
)

// Engine names a driver.
type Engine string

// The engines.
const (
	Auto    Engine = ""               // the best one for the options
	Epoll   Engine = "epoll"          // the generator of package load: Linux only
	Library Engine = "client library" // goroutines
)

const (
	maxClients = 1_000_000
	maxWindow  = 65535
)

// Options say what is to be run. All have to be set; Defaults has what is usual.
type Options struct {
	Mode   Mode
	Server *url.URL    // mqtt, mqtts, ws or wss
	TLS    *tls.Config // of mqtts and wss

	Version   mqtt.Version
	Username  string // may have placeholders
	Password  []byte // nil: none
	KeepAlive time.Duration
	Clean     bool   // otherwise the sessions stay at the broker
	Prefix    string // of client identifiers; empty: one that no other run has
	First     int    // number before that of the first client

	Count           int           // clients of the mode
	ConnectInterval time.Duration // between two connects; 0 is as fast as the broker answers

	Topic       string // name or, in Sub, filter; may have placeholders
	QoS         mqtt.QoS
	Size        int    // of payloads that are made up
	Message     []byte // is sent instead, if it is not nil
	Retain      bool
	Interval    time.Duration // between two messages of a publisher; 0 is as fast as the window allows
	Rate        float64       // messages a second of all publishers; 0: Interval counts
	Limit       uint64        // messages to be sent, or in Sub to come, in all; 0 is none
	Window      int           // messages above QoS 0 under way for each publisher
	Subscribers int           // of Pub: clients that take what is published

	Time     time.Duration // of working, once connected
	Patience time.Duration // how long nothing may come before what is missing counts as lost
	Within   time.Duration // how long a client may take to connect

	Engine   Engine          // that plays the clients
	Finish   <-chan struct{} // closed: leave in order, and report
	Progress func(Progress)  // is called each second, on the goroutine of Run; nil is nobody
}

// Defaults are the options that are usual for a mode.
func Defaults(m Mode) Options {
	o := Options{
		Mode: m, Version: mqtt.V5, KeepAlive: 300 * time.Second, Clean: true, Count: 200, ConnectInterval: 10 * time.Millisecond,
		Size: 256, Interval: time.Second, Window: 32, Time: time.Minute, Patience: time.Second, Within: 30 * time.Second,
	}
	if m == Conn {
		o.Time = 10 * time.Second
	}
	return o
}

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	switch {
	case o.Count < 1 || o.Count > maxClients:
		return fmt.Errorf("there have to be between 1 and %d clients, not %d", maxClients, o.Count)
	case o.Subscribers < 0 || o.Subscribers > maxClients:
		return fmt.Errorf("there have to be between 0 and %d subscribers, not %d", maxClients, o.Subscribers)
	case o.First < 0:
		return errors.New("the number of the first client is negative")
	case o.ConnectInterval < 0 || o.Interval < 0 || o.Rate < 0:
		return errors.New("intervals and rates cannot be negative")
	case o.Time <= 0 || o.Within <= 0 || o.Patience <= 0:
		return errors.New("times have to be positive: every run ends")
	case o.KeepAlive < 0 || o.KeepAlive > 65535*time.Second:
		return errors.New("the keep alive has to be between 0 and 65535 seconds")
	case o.Version == mqtt.V311 && o.Username == "" && o.Password != nil:
		return errors.New("a password without a user name exists in 5.0 only")
	case o.Mode == Conn:
		return nil
	case o.QoS > 2:
		return fmt.Errorf("there is no QoS %d", o.QoS)
	case o.Size < 0 || o.Size > mqtt.MaxRemaining-mqtt.MaxString-8:
		return fmt.Errorf("a payload of %d bytes does not fit into a packet", o.Size)
	case o.Window < 1 || o.Window > maxWindow:
		return fmt.Errorf("the window has to be between 1 and %d", maxWindow)
	}
	return o.checkTopic()
}

func (o *Options) checkTopic() error {
	if o.Topic == "" {
		return errors.New("no topic")
	}
	name := o.expand(o.Topic, o.First+1, "id", o.Username)
	if o.Mode == Sub {
		_, err := topic.ParseFilter(name, 0)
		return err
	}
	if !topic.ValidName(name) {
		return fmt.Errorf("topic name %q is empty, too long, or has + or #", name)
	}
	return nil
}

// expand puts in what the placeholders stand for: %i the client's number, %c its identifier, %u its user name.
func (o *Options) expand(s string, number int, id, username string) string {
	return strings.NewReplacer("%i", strconv.Itoa(number), "%c", id, "%u", username).Replace(s)
}

// secure tells whether TLS is asked for.
func (o *Options) secure() bool { return o.Server.Scheme == "mqtts" || o.Server.Scheme == "wss" }

// webSocket tells whether WebSocket is asked for.
func (o *Options) webSocket() bool { return o.Server.Scheme == "ws" || o.Server.Scheme == "wss" }
