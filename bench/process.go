// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startWithin = 10 * time.Second
	stopWithin  = 60 * time.Second // some write all that they have at the end
)

// process is a running broker.
type process struct {
	peer  *peer
	args  []string
	dir   string // its files, and where it runs
	said  string // file that its standard error is added to, or empty
	trace string // file that its synchronisations of files are written to, or empty
	cmd   *exec.Cmd
	addr  string
	ended chan struct{} // closed when it has ended
}

// launch says how a broker is to be started.
type launch struct {
	name    string       // of the run
	dir     string       // where it may write; start gives it a directory of its own within
	port    int          // start picks it
	ws      bool         // it must speak WebSocket
	secure  *certificate // it must speak TLS; nil is plain
	said    string       // file for what it says, or empty
	profile string       // directory for profiles, or empty
	syncs   bool         // it runs under strace, which counts what it synchronises
}

// start runs a broker on a free port and waits until it accepts connections.
func start(ctx context.Context, p *peer, l launch) (_ *process, err error) {
	if l.port, err = freePort(); err != nil {
		return nil, err
	}
	if l.dir, err = os.MkdirTemp(l.dir, p.name); err != nil {
		return nil, err
	}
	args, err := p.args(l)
	if err != nil {
		return nil, err
	}
	pr := &process{peer: p, args: args, dir: l.dir, said: l.said, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port))}
	if l.syncs {
		pr.trace = filepath.Join(l.dir, "trace")
	}
	if err := pr.spawn(); err != nil {
		return nil, err
	}
	if err := pr.await(ctx); err != nil {
		pr.stop()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return pr, nil
}

// spawn runs the program, for the first time or once more after its end.
func (p *process) spawn() error {
	binary, args := p.peer.binary, p.args
	if p.trace != "" {
		binary, args = traced(p.trace, binary, args)
	}
	p.cmd = exec.Command(binary, args...) // not bound to a context: it is stopped after its figures are taken
	p.cmd.Dir = p.dir
	p.cmd.Env = append(os.Environ(), "HOME="+p.dir, "XDG_DATA_HOME="+filepath.Join(p.dir, "data"), "XDG_CONFIG_HOME="+filepath.Join(p.dir, "config"))
	p.cmd.Env = append(p.cmd.Env, p.peer.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // our interrupts are not the broker's
	if p.said != "" {
		f, err := os.OpenFile(p.said, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer f.Close() // the broker has its own
		p.cmd.Stderr = f
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.peer.name, err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.ended = ended
	go func() {
		cmd.Wait() // how it ended is of no interest: it is asked to
		close(ended)
	}()
	return nil
}

// freePort finds a port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// await returns when the broker accepts connections.
func (p *process) await(ctx context.Context) error {
	limit := time.After(startWithin)
	for {
		c, err := net.Dial("tcp4", p.addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			return fmt.Errorf("does not listen: %w", err)
		case <-p.ended:
			return errors.New("ended at once")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stop ends the broker, gently first.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// kill ends the broker as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails if it has ended
	<-p.ended
}

// examine keeps what can be known of a broker on Go that seems to stand still: its sockets as the kernel has them, and the stacks of its
// goroutines, which it writes as it ends.
func (p *process) examine() {
	f, err := os.OpenFile(p.said, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return // what the broker says went there, so this hardly happens; the stall is counted all the same
	}
	defer f.Close()
	fmt.Fprintf(f, "stalled at %s\n", time.Now().Format(time.RFC3339Nano))
	_, port, _ := net.SplitHostPort(p.addr)
	ss := exec.Command("ss", "-tmin", "( sport = :"+port+" or dport = :"+port+" )")
	ss.Stdout, ss.Stderr = f, f
	if err := ss.Run(); err != nil {
		fmt.Fprintf(f, "ss: %v\n", err)
	}
	p.cmd.Process.Signal(syscall.SIGQUIT) // fails if it has ended
}

// cpu is the processor time of all threads of the broker, ended ones included, by the kernel's clock for the process
// (see clock_getcpuclockid(3)).
func (p *process) cpu() (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("processor time of the broker: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// memory is the broker's resident memory in bytes, now and at its peak.
func (p *process) memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	if now, err = statusField(status, "VmRSS:"); err != nil {
		return 0, 0, err
	}
	peak, err = statusField(status, "VmHWM:")
	return now, peak, err
}

// forgetPeak lets the peak of resident memory begin anew.
func (p *process) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// written is how many bytes the broker has had written to disks, in whole pages, as the kernel counts them (write_bytes in proc_pid_io(5)).
func (p *process) written() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(b, []byte("\nwrite_bytes: "))
	if !ok {
		return 0, errors.New("no write_bytes in the books of the broker")
	}
	digits, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.ParseInt(string(digits), 10, 64)
}

// statusField reads a size from /proc/PID/status, in bytes.
func statusField(status []byte, key string) (int64, error) {
	_, rest, ok := bytes.Cut(status, []byte("\n"+key))
	if !ok {
		return 0, fmt.Errorf("no %s in the status of the broker", key)
	}
	fields := bytes.Fields(rest)
	if len(fields) < 2 || string(fields[1]) != "kB" {
		return 0, fmt.Errorf("%s in the status of the broker is no size", key)
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	return n << 10, err
}
