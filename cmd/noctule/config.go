// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/noctule/noctule/server/config"
)

func init() { verbs = append(verbs, configCommand) }

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the default configuration, the one in force, or its schema",
		Long: `Print configurations.

Exit codes: 0 it was printed, 1 the configuration has mistakes, 2 the command line is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configDefault(), configShow(), configSchema())
	return cmd
}

func configDefault() *cobra.Command {
	return &cobra.Command{
		Use:   "default",
		Short: "Print a configuration file with every option, its meaning and its default",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printed(cmd, config.DefaultYAML()) },
	}
}

func configShow() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "show [flags]",
		Short: "Print the configuration that \"noctule run\" would use, with where each option comes from",
		Long: `Print the configuration that "noctule run" would use with the same flags and the same environment. Behind each option
that is not a default stands where it comes from. Secrets are masked.`,
		Args: f.arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(f.input(cmd))
			if err != nil {
				return failed(err)
			}
			return printed(cmd, c.YAML())
		},
	}
	f.add(cmd)
	return cmd
}

func configSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printed(cmd, string(config.Schema())) },
	}
}

// printed writes to standard output; a reader that went away is an error.
func printed(cmd *cobra.Command, s string) error {
	if _, err := io.WriteString(cmd.OutOrStdout(), s); err != nil {
		return &exit{exitFailed, err}
	}
	return nil
}
