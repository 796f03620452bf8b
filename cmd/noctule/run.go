// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/server"
	"github.com/noctule/noctule/server/config"
)

func init() { verbs = append(verbs, runCommand) }

// serverFlags are what run and config show take: where the configuration is, and what replaces parts of it.
type serverFlags struct {
	config     string
	listen     []string
	plaintext  bool
	data       string
	durability string
	admin      string
	logLevel   string
	anonymous  string
}

func (f *serverFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&f.config, "config", "c", "", "configuration `file`; $NOCTULE_CONFIG names it too")
	fs.StringArrayVar(&f.listen, "listen", nil, "listen on `address`, such as localhost:1883 or tls://:8883; replaces the configured listeners; repeatable")
	fs.BoolVar(&f.plaintext, "plaintext", false, "allow --listen without TLS on an address that other hosts reach")
	fs.StringVar(&f.data, "data", "", "data `directory`")
	fs.StringVar(&f.durability, "durability", "", "what an acknowledgement means: `class` sync, interval or memory")
	fs.StringVar(&f.admin, "admin", "", "`address` of the admin server, or off")
	fs.StringVar(&f.logLevel, "log-level", "", "`level` of the log: debug, info, warn or error")
	fs.StringVar(&f.anonymous, "anonymous", "", "`where` clients without a login come in: loopback, everywhere or nowhere; everywhere if given bare")
	fs.Lookup("anonymous").NoOptDefVal = "everywhere"
}

// arguments allows nothing beyond flags, but for the word of a flag that may also stand bare.
func (f *serverFlags) arguments(cmd *cobra.Command, args []string) error {
	bare := cmd.Flags().Changed("anonymous") && f.anonymous == "everywhere"
	if len(args) == 1 && bare && (args[0] == "everywhere" || args[0] == "loopback" || args[0] == "nowhere") {
		f.anonymous = args[0]
		return nil
	}
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%q is not known to %q%s", args[0], cmd.CommandPath(), hint)
}

// input says to package config where everything comes from.
func (f *serverFlags) input(cmd *cobra.Command) config.Input {
	in := config.Input{File: f.config, Environ: os.Environ()}
	if in.File == "" {
		in.File = os.Getenv("NOCTULE_CONFIG")
	}
	set := func(flag, option, value string) {
		if cmd.Flags().Changed(flag) {
			in.Flags = append(in.Flags, config.Setting{Flag: "--" + flag, Option: option, Value: value})
		}
	}
	set("listen", "listeners", f.listeners())
	set("data", "data", f.data)
	set("durability", "store.durability", f.durability)
	set("admin", "admin.address", f.admin)
	set("log-level", "log.level", f.logLevel)
	set("anonymous", "auth.anonymous", f.anonymous)
	return in
}

// listeners writes the addresses of --listen as the list that the configuration would have.
func (f *serverFlags) listeners() string {
	var b strings.Builder
	for _, address := range f.listen {
		fmt.Fprintf(&b, "- {address: %s, plaintext: %t}\n", strconv.Quote(address), f.plaintext)
	}
	return b.String()
}

func runCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "run [flags]",
		Short: "Run the broker",
		Long: `Run the broker until it is told to stop. Without any configuration it listens on localhost:1883
for clients of this host, and on 127.0.0.1:18083 for its admin server, and keeps what must survive in
the user's data directory, such as ~/.local/share/noctule.

SIGTERM and SIGINT stop it in order; a second one at once. SIGHUP reads the configuration again.

` + exitCodes,
		Example: `  noctule run
  noctule run -c /etc/noctule/noctule.yaml
  noctule run --data /var/lib/noctule
  noctule run --listen 0.0.0.0:1883 --plaintext --anonymous`,
		Args:              f.arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return serve(f.input(cmd)) },
	}
	f.add(cmd)
	return cmd
}

// serve runs the broker until a signal stops it.
func serve(in config.Input) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(signals)
	load := func() (*config.Config, error) { return config.Load(in) }
	c, err := load()
	if err != nil {
		server.TellStartFailed(err)
		return failed(err)
	}
	s, err := server.New(server.Options{
		Config: c, Load: load, Version: version().Version, Stderr: os.Stderr, Terminal: isTerminal(os.Stderr),
	})
	if err != nil {
		return failed(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	stopping := false
	for {
		select {
		case err := <-ended:
			if err != nil {
				return failed(err)
			}
			return nil
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				s.TryReload()
			case stopping:
				return &exit{code: exitImpatient}
			default:
				stopping = true
				stop()
			}
		}
	}
}

// failed reports mistakes with the lines they are on, and other errors in one line.
func failed(err error) error {
	report(os.Stderr, err)
	if errors.Is(err, broker.ErrDiskFailed) {
		return &exit{code: exitDiskFailed}
	}
	return &exit{code: exitFailed}
}

func report(w io.Writer, err error) {
	if ms, ok := errors.AsType[config.Mistakes](err); ok {
		fmt.Fprintln(w, ms.Text())
		return
	}
	fmt.Fprintln(w, "noctule:", err)
}

// isTerminal says whether colour makes sense.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
