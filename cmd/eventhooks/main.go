// Command eventhooks is Event Hooks for people: run the whole system on this
// machine, post an event, watch what a hook sends, and take over what Kong
// balances.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"eventhooks/internal/lua"
)

// version is set by the linker for a release.
var version = "dev"

func main() {
	lua.RunIfChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "eventhooks:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "eventhooks",
		Short: "Kong's Event Hooks, with the durability of a webhook platform",
		Long: `Event Hooks tells webhooks, chats and logs what happens at your gateways.

Try it in two terminals:

  eventhooks listen            a receiver that prints what arrives
  eventhooks local             the whole system on this machine; prints what to do next`,
		Version:       version,
		Args:          cobra.NoArgs, // an unknown subcommand is an error, not a help page with exit 0
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newLocal(), newEmit(), newListen(), newUpstreams())
	return root
}
