// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/admin"
	"github.com/noctule/noctule/server/config"
	"github.com/noctule/noctule/store"
)

// dataPlace says where the data is that a verb is about: in a directory, or with a broker that runs.
type dataPlace struct {
	config, data, admin string
	code                int // of the exit where it does not work out
}

func (p *dataPlace) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.data, "data", "", "data `directory`; without it the configured one")
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "configuration `file`; $NOCTULE_CONFIG names it too")
}

func (p *dataPlace) addAdmin(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.admin, "admin", "", "`address` of the admin server of a broker that runs on this host")
	cmd.MarkFlagsMutuallyExclusive("admin", "data")
}

// load is the configuration that a broker would have.
func (p *dataPlace) load(cmd *cobra.Command) (*config.Config, error) {
	f := serverFlags{config: p.config, data: p.data}
	c, err := config.Load(f.input(cmd))
	if err != nil {
		report(cmd.ErrOrStderr(), err)
		return nil, &exit{code: p.code}
	}
	return c, nil
}

// dir is the directory.
func (p *dataPlace) dir(cmd *cobra.Command) (string, error) {
	if p.data != "" {
		return filepath.Abs(p.data)
	}
	c, err := p.load(cmd)
	if err == nil && c.Data == "" {
		err = usage("no data directory is configured; name one with --data")
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(c.Data)
}

// choose calls folder, or broker where --admin names one, or the configured directory is in use.
func (p *dataPlace) choose(cmd *cobra.Command, folder func(dir string) error, broker func(adminServer) error) error {
	err := p.chosen(cmd, folder, broker)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*exit](err); ok {
		return err
	}
	return &exit{p.code, err}
}

func (p *dataPlace) chosen(cmd *cobra.Command, folder func(dir string) error, broker func(adminServer) error) error {
	if p.admin != "" {
		a, err := parseAdmin(p.admin)
		if err != nil {
			return err
		}
		return broker(a)
	}
	dir, err := p.dir(cmd)
	if err != nil {
		return err
	}
	inUse := folder(dir)
	if !errors.Is(inUse, store.ErrInUse) {
		return inUse
	}
	inUse = fmt.Errorf("%w; stop it, or ask it: --admin HOST:PORT", inUse)
	if p.data != "" {
		return inUse
	}
	c, err := p.load(cmd)
	if err != nil {
		return err
	}
	if c.Admin.Off() {
		return inUse
	}
	a, err := parseAdmin(c.Admin.Address)
	if err != nil {
		return err
	}
	if pid, err := os.ReadFile(filepath.Join(dir, "PID")); err == nil {
		a.process = strings.TrimSpace(string(pid))
	}
	return broker(a)
}

// parseAdmin takes HOST:PORT, or a URL.
func parseAdmin(address string) (adminServer, error) {
	if strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
		return adminServer{url: strings.TrimRight(address, "/")}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return adminServer{}, usage("--admin: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return adminServer{url: "http://" + net.JoinHostPort(host, port)}, nil
}

// adminServer is that of a broker that runs.
type adminServer struct {
	url     string
	process string // id of the broker that it has to be; "" = whichever
}

// get asks for a page, and gives its body.
func (a adminServer) get(ctx context.Context, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("admin server: %w", err)
	}
	if answer.StatusCode == http.StatusOK {
		if p := answer.Header.Get(admin.ProcessHeader); a.process == "" || p == a.process {
			return answer.Body, nil
		}
		answer.Body.Close()
		return nil, fmt.Errorf("the admin server at %s is not that of process %s, which has the data directory; name the right one with --admin", a.url, a.process)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err != nil {
		return nil, err
	}
	var problem admin.Problem
	if json.Unmarshal(text, &problem) != nil || problem.Error == "" {
		problem.Error = strings.TrimSpace(string(text))
	}
	return nil, fmt.Errorf("admin server at %s: %s: %s", a.url, answer.Status, problem.Error)
}
