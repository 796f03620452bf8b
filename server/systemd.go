// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// A notifier tells systemd how things stand. Where no systemd asked for it nothing happens. Messages that get lost are lost: systemd
// notices by its time-outs.
type notifier struct{}

func (notifier) send(lines ...string) {
	daemon.SdNotify(false, strings.Join(lines, "\n")) //nolint:errcheck // see above
}

func (n notifier) ready()    { n.send(daemon.SdNotifyReady, "STATUS=serving") }
func (n notifier) stopping() { n.send(daemon.SdNotifyStopping, "STATUS=waiting for clients to leave") }

// reloading and reloaded go around a reload; systemd wants the clock with the former.
func (n notifier) reloading() { n.send(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec()) }

func (n notifier) reloaded(status string) { n.send(daemon.SdNotifyReady, "STATUS="+status) }

// failed says in one line why the start failed.
func (n notifier) failed(err error) {
	line, _, _ := strings.Cut(err.Error(), "\n")
	n.send("STATUS=" + line)
}

// TellStartFailed tells the service manager why a start failed before there was a Server.
func TellStartFailed(err error) { notifier{}.failed(err) }

// watchdog tells systemd that we live, as often as it wants to hear, while alive says so. It returns when ctx ends.
func (n notifier) watchdog(ctx context.Context, alive func(context.Context) bool) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, interval/3)
		if alive(asking) {
			n.send(daemon.SdNotifyWatchdog)
		}
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// inherited are listening sockets that systemd opened for us, by their FileDescriptorName.
type inherited map[string][]net.Listener

func inheritedSockets() (inherited, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	return byName, nil
}

// take gives a listener its sockets, if there are any of its name.
func (i inherited) take(name string) []net.Listener {
	l := i[name]
	delete(i, name)
	return l
}

// unused closes sockets that no listener has asked for and says so: clients would wait there for ever.
func (i inherited) unused() error {
	var errs []error
	for name, ls := range i {
		for _, l := range ls {
			l.Close() // it was never used
		}
		errs = append(errs, fmt.Errorf("systemd opened a socket called %q (FileDescriptorName), and no listener has that name", name))
	}
	return errors.Join(errs...)
}
