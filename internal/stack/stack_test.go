package stack_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"eventhooks"
	"eventhooks/internal/awstest"
	"eventhooks/internal/env"
	"eventhooks/internal/retry"
	"eventhooks/internal/stack"
)

func load(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The numbers of docs/architecture.md.
func TestLoad_numbers(t *testing.T) {
	s := load(t)
	timeouts := map[string]time.Duration{
		"admin": 29 * time.Second, "ingest": 29 * time.Second, // API Gateway waits 30 s
		"deliver": time.Minute, "healthprobe": time.Minute, // a probe's lease is 70 s
	}
	if len(s.Functions) != len(timeouts) {
		t.Errorf("there are %d functions; want %d", len(s.Functions), len(timeouts))
	}
	for name, want := range timeouts {
		f, ok := s.Function(name)
		if !ok {
			t.Errorf("there is no function %s", name)
			continue
		}
		if f.Timeout != want || f.MemoryMB != 512 || f.Runtime != "provided.al2023" || f.Handler != "bootstrap" || f.Architecture != "arm64" || f.BuildMethod != "makefile" {
			t.Errorf("function %s = %+v; want timeout %v, 512 MB, bootstrap on provided.al2023 and arm64, built by make", name, f, want)
		}
	}
	deliver, _ := s.Function("deliver")
	want := []stack.Source{
		{Queue: "EventsQueue", Batch: 5, MaxConcurrency: 50, PartialFailures: true},
		{Queue: "RetryQueue", Batch: 5, MaxConcurrency: 20, PartialFailures: true},
	}
	if diff := cmp.Diff(want, deliver.Sources); diff != "" {
		t.Errorf("sources of deliver (-want +got):\n%s", diff)
	}
	for _, source := range deliver.Sources {
		q, ok := s.Queue(source.Queue)
		if want := 6*deliver.Timeout + source.Window; !ok || q.Visibility != want {
			t.Errorf("visibility of %s = %v; want %v, six times the function's timeout and the window", source.Queue, q.Visibility, want)
		}
		if q.MaxReceives != 10 {
			t.Errorf("%s gives up after %d receives; want 10", q.ID, q.MaxReceives)
		}
		if _, ok := s.Queue(q.DeadLetter); !ok {
			t.Errorf("%s has no dead-letter queue", q.ID)
		}
	}
	if len(s.Queues) != 4 {
		t.Errorf("there are %d queues; want 4", len(s.Queues))
	}
	for _, q := range s.Queues {
		if q.Retention != 14*24*time.Hour || q.MaxMessageBytes != 1<<20 {
			t.Errorf("queue %s keeps %d bytes for %v; want 1 MiB for 14 days", q.ID, q.MaxMessageBytes, q.Retention)
		}
	}
	for name, want := range map[string][]stack.Schedule{
		"deliver": {{Every: time.Minute, Input: `{"sweep":true}`}}, "healthprobe": {{Every: time.Minute, Input: "{}"}},
		"admin": nil, "ingest": nil,
	} {
		f, _ := s.Function(name)
		if diff := cmp.Diff(want, f.Schedules); diff != "" {
			t.Errorf("schedules of %s (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[string][]stack.Route{
		"ingest": {{"POST", "/events"}, {"POST", "/events/{source}/{event}"}}, "admin": {{}}, "deliver": nil, "healthprobe": nil,
	} {
		f, _ := s.Function(name)
		if diff := cmp.Diff(want, f.Routes); diff != "" {
			t.Errorf("routes of %s (-want +got):\n%s", name, diff)
		}
	}
}

// What docs/architecture.md tells people is what is deployed.
func TestLoad_numbersInTheArchitecture(t *testing.T) {
	s := load(t)
	raw, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	want := map[string]bool{}
	for _, f := range s.Functions {
		want["| "+strings.Join([]string{f.Name, seconds(f.Timeout), strconv.Itoa(f.MemoryMB)}, " | ")+" |"] = true
		for _, source := range f.Sources {
			q, _ := s.Queue(source.Queue)
			want["| "+strings.Join([]string{
				q.ID, seconds(q.Visibility), strconv.Itoa(int(q.Retention / (24 * time.Hour))),
				strconv.Itoa(q.MaxReceives), strconv.Itoa(source.Batch), strconv.Itoa(source.MaxConcurrency),
			}, " | ")+" |"] = true
		}
	}
	for row := range want {
		if !strings.Contains(string(raw), "\n"+row+"\n") {
			t.Errorf("docs/architecture.md has no row %s", row)
		}
	}
}

// A function that may invoke functions could reach whatever those may do.
func TestLoad_onlyHealthprobeInvokesAndOnlyItself(t *testing.T) {
	got := map[string][]string{}
	for _, f := range load(t).Functions {
		for _, p := range f.Allowed {
			if strings.HasPrefix(p.Action, "lambda:") {
				got[f.Name] = append(got[f.Name], p.Action+" on "+p.Resource)
			}
		}
	}
	want := map[string][]string{"healthprobe": {"lambda:InvokeFunction on HealthprobeFunction"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what functions may do with functions (-want +got):\n%s", diff)
	}
}

// Who holds no hooks and upstreams needs no key, who only reads them makes none,
// and nobody has one while none is set.
func TestLoad_keys(t *testing.T) {
	got := map[string][]string{}
	for _, f := range load(t).Functions {
		for _, p := range f.Allowed {
			if strings.HasPrefix(p.Action, "kms:") {
				got[f.Name] = append(got[f.Name], p.Action+" on "+p.Resource+" if "+p.If)
			}
		}
	}
	const decrypt = "kms:Decrypt on KmsKeyArn if HasKmsKey"
	want := map[string][]string{
		"admin": {decrypt, "kms:GenerateDataKey on KmsKeyArn if HasKmsKey"}, "deliver": {decrypt}, "healthprobe": {decrypt},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what functions may do with the KMS key (-want +got):\n%s", diff)
	}
}

// A key that an alias names is used as one that is named itself.
func TestTemplate_aliasOfAKey(t *testing.T) {
	type statement struct {
		Action   any `yaml:"Action"`
		Resource any `yaml:"Resource"`
	}
	var doc struct {
		Resources map[string]struct {
			Properties struct {
				Policies []struct {
					PolicyDocument struct {
						Statement []yaml.Node `yaml:"Statement"`
					} `yaml:"PolicyDocument"`
				} `yaml:"Policies"`
			} `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(eventhooks.Template, &doc); err != nil {
		t.Fatal(err)
	}
	under := map[string]map[string]any{"HasKmsKey": {}, "HasKmsAlias": {}}
	for role, r := range doc.Resources {
		for _, policy := range r.Properties.Policies {
			for _, n := range policy.PolicyDocument.Statement {
				if n.Tag != "!If" || under[n.Content[0].Value] == nil {
					continue
				}
				var s statement
				if err := n.Content[1].Decode(&s); err != nil {
					t.Fatal(err)
				}
				under[n.Content[0].Value][role] = s.Action
			}
		}
	}
	if diff := cmp.Diff(under["HasKmsKey"], under["HasKmsAlias"]); diff != "" || len(under["HasKmsKey"]) != 3 {
		t.Errorf("what roles may do with a key (-by its ARN +by an alias):\n%s", diff)
	}
}

func TestPermission_Allows(t *testing.T) {
	some := stack.Permission{Action: "dynamodb:PutItem", Resource: "StateTable", Keys: []string{"probed", "probe#*"}}
	for _, tt := range []struct {
		p                           stack.Permission
		action, resource, partition string
		want                        bool
	}{
		{some, "dynamodb:PutItem", "StateTable", "probed", true},
		{some, "dynamodb:PutItem", "StateTable", "probe#u1", true},
		{some, "dynamodb:PutItem", "StateTable", "probe#", true},
		{some, "dynamodb:PutItem", "StateTable", "probe", false},
		{some, "dynamodb:PutItem", "StateTable", "probed#u1", false},
		{some, "dynamodb:PutItem", "StateTable", "", false},
		{some, "dynamodb:PutItem", "StateTable", "delivery#h1#0", false},
		{some, "dynamodb:GetItem", "StateTable", "probed", false},
		{some, "dynamodb:PutItem", "ConfigTable", "probed", false},
		{stack.Permission{Action: "dynamodb:Query", Resource: "StateTable"}, "dynamodb:Query", "StateTable", "probed", true},
		{stack.Permission{Action: "sqs:SendMessage", Resource: "EventsQueue"}, "sqs:SendMessage", "EventsQueue", "", true},
	} {
		if got := tt.p.Allows(tt.action, tt.resource, tt.partition); got != tt.want {
			t.Errorf("%v allows %s on %s %q: %v; want %v", tt.p, tt.action, tt.resource, tt.partition, got, tt.want)
		}
	}
}

// Who writes to a table that others write to as well, writes to what is its own.
func TestLoad_partitions(t *testing.T) {
	writes := []string{"dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"}
	got := map[string][]string{}
	for _, f := range load(t).Functions {
		for _, p := range f.Allowed {
			if slices.Contains(writes, p.Action) && len(p.Keys) > 0 {
				got[f.Name+" to "+p.Resource] = p.Keys
			}
		}
	}
	want := map[string][]string{
		"admin to StateTable":       {"delivery#*", "probe#*", "snooze#*", "token#*"},
		"deliver to ConfigTable":    {"epoch", "hook"},
		"healthprobe to StateTable": {"probe#*", "probed"},
		"ingest to StateTable":      {"ingest#*", "token#*"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions that functions write to (-want +got):\n%s", diff)
	}
}

func TestLoad_tables(t *testing.T) {
	s := load(t)
	if len(s.Tables) != 2 {
		t.Fatalf("there are %d tables; want 2", len(s.Tables))
	}
	config, _ := s.Table("ConfigTable")
	state, _ := s.Table("StateTable")
	got := []*dynamodb.CreateTableInput{config.Input("c"), state.Input("s")}
	// What dynamostore is tested on is what is deployed.
	unordered := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if diff := cmp.Diff(sorted(awstest.Tables("c", "s")), sorted(got), unordered, cmpopts.EquateEmpty(), exported); diff != "" {
		t.Errorf("tables of the tests and of template.yaml (-tests +template):\n%s", diff)
	}
	for _, table := range s.Tables {
		if table.TTL != awstest.TTLAttribute {
			t.Errorf("%s expires by %q; want %q", table.ID, table.TTL, awstest.TTLAttribute)
		}
	}
}

// exported leaves the SDK's own unexported fields out of a comparison.
var exported = cmp.FilterPath(func(p cmp.Path) bool {
	f, ok := p.Last().(cmp.StructField)
	return ok && !token.IsExported(f.Name())
}, cmp.Ignore())

// sorted orders what has no order: attribute definitions.
func sorted(tables []*dynamodb.CreateTableInput) []*dynamodb.CreateTableInput {
	for _, in := range tables {
		slices.SortFunc(in.AttributeDefinitions, func(a, b dynamotypes.AttributeDefinition) int {
			return strings.Compare(*a.AttributeName, *b.AttributeName)
		})
	}
	return tables
}

// A setting that a function reads and the template does not set stops it at its
// start; one that is set and not read is a mistake or a leftover.
func TestLoad_settings(t *testing.T) {
	for _, f := range load(t).Functions {
		set := slices.Sorted(maps.Keys(f.Environment))
		if diff := cmp.Diff(read(t, f.Name), set); diff != "" {
			t.Errorf("settings of %s (-read by its main.go +set by template.yaml):\n%s", f.Name, diff)
		}
	}
}

// read returns the names of the settings that a function's main reads: the
// string constants in upper case that it hands to methods of env.Settings.
func read(t *testing.T, function string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../functions/"+function+"/main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || method.Sel.Name == "AWS" { // AWS's names are Lambda's to set
			return true
		}
		if on, ok := method.X.(*ast.Ident); !ok || on.Name != "e" {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok {
			if s, err := strconv.Unquote(lit.Value); err == nil && name.MatchString(s) {
				names = append(names, s)
			}
		}
		return true
	})
	if len(names) == 0 {
		t.Fatalf("functions/%s/main.go reads no settings", function)
	}
	slices.Sort(names)
	return names
}

func TestLoad_parameters(t *testing.T) {
	parameters := map[string]stack.Parameter{}
	for _, p := range load(t).Parameters {
		parameters[p.Name] = p
		if p.Description == "" {
			t.Errorf("parameter %s has no description", p.Name)
		}
		if p.Pattern != "" && !regexp.MustCompile(p.Pattern).MatchString(p.Default) {
			t.Errorf("parameter %s does not allow its own default %q", p.Name, p.Default)
		}
		if len(p.Allowed) > 0 && !slices.Contains(p.Allowed, p.Default) {
			t.Errorf("parameter %s does not allow its own default %q", p.Name, p.Default)
		}
	}
	t.Run("the default schedule is the code's own", func(t *testing.T) {
		waits, err := retry.Parse(parameters["RetrySchedule"].Default)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(retry.Default(), waits); diff != "" {
			t.Errorf("schedule (-code +template):\n%s", diff)
		}
	})
	t.Run("what the template allows as a schedule is one, and no more", func(t *testing.T) {
		pattern := regexp.MustCompile(parameters["RetrySchedule"].Pattern)
		for _, s := range []string{"5s", "200ms,1s", "1h30m,12h", strings.Repeat("1m,", 48) + "1m"} {
			if _, err := retry.Parse(s); err != nil || !pattern.MatchString(s) {
				t.Errorf("schedule %q: %v, allowed = %v; want none, true", s, err, pattern.MatchString(s))
			}
		}
		for _, s := range []string{"", "5", "5s,", ",5s", "-5s", "5s, 30s", "soon", strings.Repeat("1m,", 49) + "1m"} {
			if pattern.MatchString(s) {
				t.Errorf("schedule %q is allowed", s)
			}
		}
	})
	t.Run("what the template allows as a KMS key is one, and no more", func(t *testing.T) {
		pattern := regexp.MustCompile(parameters["KmsKeyArn"].Pattern)
		for s, want := range map[string]bool{
			"": true,
			"arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab":     true,
			"arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab":    true,
			"arn:aws:kms:eu-central-1:123456789012:alias/event-hooks/secrets":                    true,
			"1234abcd-12ab-34cd-56ef-1234567890ab":                                               false,
			"alias/event-hooks":                                                                  false,
			"arn:aws:kms:eu-central-1:123456789012:key/*":                                        false,
			"arn:aws:kms:eu-central-1:123456789012:alias/*":                                      false,
			"arn:aws:kms:*:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab":                false,
			"arn:aws:sqs:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab":     false,
			"arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab,arn": false,
		} {
			if got := pattern.MatchString(s); got != want {
				t.Errorf("key %q allowed = %v; want %v", s, got, want)
			}
			e := env.New(func(string) (string, bool) { return s, true })
			if got := e.KMSKey("KMS_KEY_ARN"); want && (got != s || e.Err() != nil) {
				t.Errorf("the function reads %q of %q, %v; want what the template allows", got, s, e.Err())
			}
		}
	})
	t.Run("address ranges", func(t *testing.T) {
		pattern := regexp.MustCompile(parameters["AllowedPrivateCidrs"].Pattern)
		for s, want := range map[string]bool{
			"": true, "10.0.0.0/8": true, "10.0.0.0/8,fd00:1::/32": true, "10.0.0.1": false, "10.0.0.0/8,": false, "10.0.0.0/8, fd00::/8": false,
		} {
			if got := pattern.MatchString(s); got != want {
				t.Errorf("ranges %q allowed = %v; want %v", s, got, want)
			}
		}
	})
}

// The command that a new user is told to run is the sample that the tests use.
func TestTemplate_firstToken(t *testing.T) {
	var doc struct {
		Outputs map[string]struct {
			Value string `yaml:"Value"`
		} `yaml:"Outputs"`
	}
	if err := yaml.Unmarshal(eventhooks.Template, &doc); err != nil {
		t.Fatal(err)
	}
	command := doc.Outputs["FirstToken"].Value
	_, rest, _ := strings.Cut(command, "--payload '")
	payload, _, ok := strings.Cut(rest, "'")
	if !ok {
		t.Fatalf("command has no payload: %s", command)
	}
	raw, err := os.ReadFile("../../events/admin-create-token.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := errors.Join(json.Unmarshal(raw, &want), json.Unmarshal([]byte(payload), &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payload (-sample +output):\n%s", diff)
	}
}

func TestStack_Environment(t *testing.T) {
	s := load(t)
	r := stack.Resources{
		Tables: map[string]string{"ConfigTable": "x-config", "StateTable": "x-state"},
		Queues: map[string]string{"EventsQueue": "http://q/events", "RetryQueue": "http://q/retry"},
	}
	t.Run("a setting is what it refers to, a parameter its default", func(t *testing.T) {
		got, err := s.Environment("deliver", r, map[string]string{"DeliveryLog": "failures"})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"CONFIG_TABLE": "x-config", "STATE_TABLE": "x-state", "EVENTS_QUEUE_URL": "http://q/events", "RETRY_QUEUE_URL": "http://q/retry",
			"RETRY_SCHEDULE": "5s,30s,2m,10m,30m,1h,3h,6h,12h,12h,12h", "DELIVERY_LOG": "failures", "ALLOW_PRIVATE_CIDRS": "",
			"KMS_KEY_ARN": "", "URL_SUFFIX": "amazonaws.com",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
	})
	t.Run("CloudFormation's own", func(t *testing.T) {
		got, err := s.Environment("healthprobe", r, nil)
		if err != nil || got["URL_SUFFIX"] != "amazonaws.com" {
			t.Errorf("URL_SUFFIX = %q, %v; want that of most regions", got["URL_SUFFIX"], err)
		}
	})
	t.Run("what there is not is an error", func(t *testing.T) {
		if _, err := s.Environment("nobody", r, nil); err == nil {
			t.Error("an unknown function is no error")
		}
		if _, err := s.Environment("deliver", r, map[string]string{"Nothing": "x"}); err == nil {
			t.Error("an unknown parameter is no error")
		}
		if _, err := s.Environment("deliver", stack.Resources{}, nil); err == nil {
			t.Error("a table that was not made is no error")
		}
	})
}

func TestParse_refuses(t *testing.T) {
	function := func(event string) string {
		return "Resources:\n  AFunction:\n    Type: AWS::Serverless::Function\n    Properties:\n      Architectures: [arm64]\n      Timeout: 1\n" +
			"      MemorySize: 1\n      Events:\n        E: {" + event + "}\n"
	}
	policy := func(statement, whose string) string {
		return function("Type: HttpApi") + "  ARole: {Type: AWS::IAM::Role}\n" +
			"  P: {Type: AWS::IAM::Policy, Properties: {" + whose + ", PolicyDocument: {Statement: [{" + statement + "}]}}}\n"
	}
	for name, template := range map[string]string{
		"what is not YAML":                     "\t",
		"a template without functions":         "Resources: {}",
		"an unknown trigger":                   function("Type: Kinesis"),
		"a queue by its URL's name":            function("Type: SQS, Properties: {Queue: https://sqs/q}"),
		"rate(1 minutes)":                      function("Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minutes)}"),
		"rate(5 minute)":                       function("Type: ScheduleV2, Properties: {ScheduleExpression: rate(5 minute)}"),
		"a cron":                               function("Type: ScheduleV2, Properties: {ScheduleExpression: 'cron(0 0 * * ? *)'}"),
		"a policy of a role that there is not": policy("Effect: Allow, Action: sqs:SendMessage, Resource: !Ref Q", "Roles: [!Ref Nobody]"),
		"a policy of a user":                   policy("Effect: Allow, Action: sqs:SendMessage, Resource: !Ref Q", "Roles: [!Ref ARole], Users: [somebody]"),
		"a policy that denies":                 policy("Effect: Deny, Action: sqs:SendMessage, Resource: !Ref Q", "Roles: [!Ref ARole]"),
		"a condition on something else":        policy("Effect: Allow, Action: sqs:SendMessage, Resource: !Ref Q, Condition: {Bool: {aws:SecureTransport: true}}", "Roles: [!Ref ARole]"),
		"a condition with another operator":    policy("Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {StringLike: {dynamodb:LeadingKeys: [a]}}", "Roles: [!Ref ARole]"),
		"two conditions":                       policy("Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringLike: {dynamodb:LeadingKeys: [a]}, ForAllValues:StringEquals: {dynamodb:LeadingKeys: [b]}}", "Roles: [!Ref ARole]"),
		"a condition on no partition":          policy("Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringLike: {dynamodb:LeadingKeys: []}}", "Roles: [!Ref ARole]"),
		"a star where none counts":             policy("Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringEquals: {dynamodb:LeadingKeys: ['a*']}}", "Roles: [!Ref ARole]"),
		"a star in the middle":                 policy("Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringLike: {dynamodb:LeadingKeys: ['a*b']}}", "Roles: [!Ref ARole]"),
		"a choice of two statements":           policy("Effect: Allow, Action: sqs:SendMessage, Resource: !Ref Q", "Roles: [!Ref ARole]") + "  Q: {Type: AWS::IAM::Policy, Properties: {Roles: [!Ref ARole], PolicyDocument: {Statement: [!If [C, {Effect: Allow, Action: a, Resource: !Ref Q}, {Effect: Allow, Action: b, Resource: !Ref Q}]]}}}\n",
		"a policy about everything":            policy("Effect: Allow, Action: sqs:SendMessage, Resource: '*'", "Roles: [!Ref ARole]"),
		"a table without a sort key":           "Resources:\n  T:\n    Type: AWS::DynamoDB::Table\n    Properties: {KeySchema: [{AttributeName: a, KeyType: HASH}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := stack.Parse([]byte(template)); err == nil {
				t.Errorf("Parse = %+v; want an error", s)
			}
		})
	}
	if _, err := stack.Parse([]byte(function("Type: ScheduleV2, Properties: {ScheduleExpression: rate(5 minutes)}"))); err != nil {
		t.Errorf("rate(5 minutes): %v", err)
	}
	for _, statement := range []string{
		"Effect: Allow, Action: sqs:SendMessage, Resource: !Ref Q",
		"Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringEquals: {dynamodb:LeadingKeys: [a]}}",
		"Effect: Allow, Action: dynamodb:PutItem, Resource: !Ref T, Condition: {ForAllValues:StringLike: {dynamodb:LeadingKeys: [a, 'b#*']}}",
	} {
		if _, err := stack.Parse([]byte(policy(statement, "Roles: [!Ref ARole]"))); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestStack_Create(t *testing.T) {
	db, queues := awstest.DynamoDB(t), awstest.SQS(t)
	s := load(t)
	const prefix = "stacktest-"
	first, err := s.Create(t.Context(), db, queues, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("tables have the template's keys, indexes and expiry", func(t *testing.T) {
		for _, table := range s.Tables {
			name := first.Tables[table.ID]
			out, err := db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: &name})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(table.Input(name).KeySchema, out.Table.KeySchema, exported); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			if got := len(out.Table.LocalSecondaryIndexes) + len(out.Table.GlobalSecondaryIndexes); got != len(table.Indexes) {
				t.Errorf("%s has %d indexes; want %d", name, got, len(table.Indexes))
			}
			ttl, err := db.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &name})
			if err != nil {
				t.Fatal(err)
			}
			if got := ttl.TimeToLiveDescription; got.AttributeName == nil || *got.AttributeName != table.TTL {
				t.Errorf("%s expires by %+v; want %s", name, got, table.TTL)
			}
		}
	})
	t.Run("queues have the template's numbers and dead letters", func(t *testing.T) {
		for _, q := range s.Queues {
			url := first.Queues[q.ID]
			out, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
				QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := out.Attributes["VisibilityTimeout"]; got != strconv.Itoa(int(q.Visibility.Seconds())) {
				t.Errorf("%s hides messages for %s s; want %v", q.ID, got, q.Visibility)
			}
			if got := out.Attributes["MessageRetentionPeriod"]; got != "1209600" {
				t.Errorf("%s keeps messages for %s s; want 1209600", q.ID, got)
			}
			if policy := out.Attributes["RedrivePolicy"]; (q.DeadLetter != "") != strings.Contains(policy, prefix+q.DeadLetter) || (policy == "") != (q.DeadLetter == "") {
				t.Errorf("%s has redrive policy %q; want dead letters in %q", q.ID, policy, q.DeadLetter)
			}
		}
	})
	t.Run("a second time changes nothing and keeps what is stored", func(t *testing.T) {
		url := first.Queues["EventsQueue"]
		if _, err := queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")}); err != nil {
			t.Fatal(err)
		}
		again, err := s.Create(t.Context(), db, queues, prefix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("names (-first +again):\n%s", diff)
		}
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
		if err != nil || len(out.Messages) != 1 {
			t.Errorf("messages = %+v, %v; want the one sent before", out, err)
		}
	})
	t.Run("a queue that is there with other attributes gets the template's", func(t *testing.T) {
		url := first.Queues["RetryQueue"]
		if _, err := queues.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
			QueueUrl: &url, Attributes: map[string]string{"VisibilityTimeout": "1"},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), db, queues, prefix); err != nil {
			t.Fatal(err)
		}
		out, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameVisibilityTimeout},
		})
		if err != nil || out.Attributes["VisibilityTimeout"] != "360" {
			t.Errorf("visibility = %v, %v; want 360", out.Attributes, err)
		}
	})
}
