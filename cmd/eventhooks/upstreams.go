package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"eventhooks/internal/hook"
	"eventhooks/internal/kongimport"
)

func newUpstreams() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upstreams",
		Short: "What healthprobe watches",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImport())
	return cmd
}

func newImport() *cobra.Command {
	var o kongimport.Options
	var kongToken, token string
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Take over upstreams and targets from Kong",
		Long: `Read upstreams and targets from a Kong Admin API and write them here, under Kong's
ids, so that healthprobe watches them and its events name what Kong knows.

  eventhooks upstreams import --kong http://127.0.0.1:8001 --dry-run

prints the plan and writes nothing; without --dry-run it is carried out. A second
import changes what changed in Kong since. What is here only is listed, and
nothing is ever deleted. What you set here that Kong has no field for stays.

Kong's active health checks are off by default. An upstream whose intervals are
both 0 in Kong is watched here all the same, with our intervals and thresholds,
which you may then change here; --exact keeps Kong's zeros. What only balances
traffic is left out, and the plan says what was.

The status is 1 when something was refused; the rest is imported all the same.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.KongToken = hook.NewSecret(flagOr(kongToken, "KONG_ADMIN_TOKEN"))
			o.Token = hook.NewSecret(flagOr(token, "EVENTHOOKS_TOKEN"))
			if o.Token.IsZero() {
				return errors.New("no token: give --token or set EVENTHOOKS_TOKEN; `eventhooks local` prints one")
			}
			o.Out = cmd.OutOrStdout()
			return kongimport.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Kong, "kong", "http://127.0.0.1:8001", "base `URL` of Kong's Admin API")
	f.StringVar(&kongToken, "kong-token", "", "its `token`, sent as Kong-Admin-Token (KONG_ADMIN_TOKEN)")
	f.StringVar(&o.Workspace, "workspace", "", "Kong's `workspace` (default: that of its Admin API, \"default\")")
	f.StringVar(&o.Tags, "tags", "", "only upstreams with these `tags`: a,b for both, a/b for one of them")
	f.StringVar(&o.URL, "url", envOr("EVENTHOOKS_URL", "http://127.0.0.1:8080"), "base `URL` of Event Hooks (EVENTHOOKS_URL)")
	f.StringVar(&token, "token", "", "its `token`, of scope admin; read is enough for --dry-run (EVENTHOOKS_TOKEN)")
	f.BoolVar(&o.DryRun, "dry-run", false, "print the plan and write nothing")
	f.BoolVar(&o.Exact, "exact", false, "keep the zeros of upstreams that Kong does not check")
	return cmd
}

// flagOr is a flag's value, or that of the environment. It is no flag's default,
// which its help would show.
func flagOr(flag, env string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(env)
}
