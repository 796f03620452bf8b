// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/noctule/noctule/mqtt"
)

// Options say what to verify, and how.
type Options struct {
	Host           Host            // runs the broker; nil is a command of this host, which the next two describe
	Command        []string        // starts the broker, in the foreground
	URL            string          // mqtt://[USER:PASSWORD@]HOST:PORT, where the broker then listens
	Rounds         int             // kills, at least 1
	Time           time.Duration   // no round begins after that; 0 is no limit
	Seed           uint64          // of everything that is left to chance
	Signal         Signal          // how to kill; empty is Kill
	RestartTimeout time.Duration   // how long the broker may take to let clients in
	Quiet          time.Duration   // at the end: how long nothing may come before what is missing counts as lost
	Tolerance      time.Duration   // how exact times have to be
	Protocols      []mqtt.Version  // V311, V5 or both
	Publishers     int             // of numbered messages, for each protocol
	Rate           int             // numbered messages in a second, all publishers together
	MaxPayload     int             // bytes
	Ledger         io.Writer       // is written what happened, a line each; may be nil
	Output         io.Writer       // is written what the broker writes; may be nil
	Progress       func(Progress)  // is called now and then, on one goroutine; may be nil
	Finish         <-chan struct{} // when closed, no further round begins; may be nil
}

// Defaults returns the options of a run of about a minute, without command.
func Defaults() Options {
	return Options{
		URL: "mqtt://127.0.0.1:1884", Rounds: 20, Time: 3 * time.Minute, Signal: Kill, RestartTimeout: 30 * time.Second,
		Quiet: 10 * time.Second, Tolerance: 2 * time.Second, Protocols: []mqtt.Version{mqtt.V311, mqtt.V5}, Publishers: 2, Rate: 400,
		MaxPayload: 100_000,
	}
}

// check refuses options that make no sense.
func (o *Options) check() error {
	switch {
	case o.Host == nil && len(o.Command) == 0:
		return errors.New("there is no command that starts the broker")
	case o.Rounds < 1:
		return errors.New("there has to be at least one round")
	case o.Publishers < 1 || o.Publishers > 1000:
		return errors.New("there have to be 1 to 1000 publishers")
	case o.Rate < 1:
		return errors.New("there has to be at least one message in a second")
	case o.MaxPayload < headSize || o.MaxPayload > 16<<20:
		return fmt.Errorf("the largest payload has to have %d bytes to 16 MiB", headSize)
	case o.RestartTimeout <= 0 || o.Quiet <= 0 || o.Tolerance <= 0 || o.Time < 0:
		return errors.New("durations have to be positive")
	case o.Signal != Kill && o.Signal != Terminate:
		return fmt.Errorf("the signal has to be %s or %s", Kill, Terminate)
	case len(o.Protocols) == 0:
		return errors.New("there has to be a protocol")
	}
	for _, v := range o.Protocols {
		if v != mqtt.V311 && v != mqtt.V5 {
			return fmt.Errorf("protocol %v is not verified", v)
		}
	}
	return nil
}

// target takes the URL apart.
func (o *Options) target() (address, username, password string, err error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "", "", "", err
	}
	if u.Scheme != "mqtt" && u.Scheme != "tcp" || u.Hostname() == "" {
		return "", "", "", fmt.Errorf("%s: it has to be mqtt://HOST:PORT", u.Redacted())
	}
	port := u.Port()
	if port == "" {
		port = "1883"
	}
	password, _ = u.User.Password()
	return net.JoinHostPort(u.Hostname(), port), u.User.Username(), password, nil
}

// Check tells what is wrong with the options, before anything is started.
func (o *Options) Check() error {
	if err := o.check(); err != nil {
		return err
	}
	_, _, _, err := o.target()
	return err
}
