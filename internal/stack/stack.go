// Package stack reads template.yaml: the tables, queues, functions, settings
// and schedules of a deployment. The local mode makes the same tables and
// queues from it on any AWS-compatible endpoint, and the tests hold the code
// to it.
//
// It reads what this template uses of SAM and CloudFormation, and refuses what
// it does not understand rather than leaving it out.
package stack

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"eventhooks"
)

// Stack is a template that was read. Everything is in the template's order.
type Stack struct {
	Parameters []Parameter
	Tables     []Table
	Queues     []Queue
	Functions  []Function
}

// Parameter is one of the template's parameters.
type Parameter struct {
	Name        string
	Description string
	Default     string
	Allowed     []string // empty: no list
	Pattern     string   // AllowedPattern; "" for none
}

// Table is a DynamoDB table.
type Table struct {
	ID      string // logical id
	Hash    Key
	Sort    Key
	Indexes []Index
	TTL     string // attribute, Unix seconds; "" for none
}

// Key is an attribute of a key schema.
type Key struct {
	Name string
	Type string // S or N
}

// Index is a secondary index of a table.
type Index struct {
	Name       string
	Local      bool // on the table's own hash key
	Hash       Key
	Sort       Key
	Projection string // ALL, KEYS_ONLY, INCLUDE
	Include    []string
}

// Queue is an SQS queue.
type Queue struct {
	ID              string // logical id
	Visibility      time.Duration
	Retention       time.Duration
	MaxMessageBytes int
	DeadLetter      string // logical id of the queue; "" for none
	MaxReceives     int    // before a message goes there; 0 without one
}

// Function is a Lambda function.
type Function struct {
	ID           string // logical id
	Name         string // of its folder in functions/
	Runtime      string
	Handler      string
	Architecture string
	BuildMethod  string
	Timeout      time.Duration
	MemoryMB     int
	// Environment says, for each setting, the logical id of what it refers
	// to: a table (its name), a queue (its URL), a parameter (its value), or
	// CloudFormation's own AWS::URLSuffix.
	Environment map[string]string
	Routes      []Route
	Sources     []Source
	Schedules   []Schedule
	// Allowed is what its role lets it do in AWS, but for what only a
	// deployment into a VPC, or one whose KMS key has an alias for a name,
	// needs.
	Allowed []Permission

	role string // logical id
}

// Permission is one action on one resource.
type Permission struct {
	Action   string // "dynamodb:Query"
	Resource string // logical id, or "ConfigTable/index/changed", or the parameter that names it
	// Keys are the partitions of a table that it is for: "hook", or by what they
	// begin with "probe#*". None means all of them.
	Keys []string
	If   string // the template's condition without which it is not given; "" for none
}

// Allows reports whether the permission is one to act on a resource, and on
// that partition of it; "" is what has none.
func (p Permission) Allows(action, resource, partition string) bool {
	return action == p.Action && resource == p.Resource && (len(p.Keys) == 0 || slices.ContainsFunc(p.Keys, func(key string) bool {
		prefix, more := strings.CutSuffix(key, "*")
		return key == partition || (more && strings.HasPrefix(partition, prefix))
	}))
}

// Route is a route of the HTTP API. The zero value is $default.
type Route struct{ Method, Path string }

// Source is a queue that invokes a function.
type Source struct {
	Queue           string // logical id
	Batch           int
	Window          time.Duration
	MaxConcurrency  int
	PartialFailures bool
}

// Schedule is a schedule that invokes a function.
type Schedule struct {
	Every time.Duration
	Input string // JSON
}

// Load reads the template that the program was built with.
func Load() (*Stack, error) { return Parse(eventhooks.Template) }

// Table returns a table by its logical id.
func (s *Stack) Table(id string) (Table, bool) {
	return find(s.Tables, func(t Table) bool { return t.ID == id })
}

// Queue returns a queue by its logical id.
func (s *Stack) Queue(id string) (Queue, bool) {
	return find(s.Queues, func(q Queue) bool { return q.ID == id })
}

// Function returns a function by the name of its folder.
func (s *Stack) Function(name string) (Function, bool) {
	return find(s.Functions, func(f Function) bool { return f.Name == name })
}

func find[T any](all []T, is func(T) bool) (T, bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	var none T
	return none, false
}

// Resources are the names under which tables and the URLs under which queues
// can be reached, by logical id.
type Resources struct {
	Tables map[string]string
	Queues map[string]string
}

// Environment returns a function's settings: what CloudFormation would put
// into its environment. Parameters that params does not name have their
// defaults.
func (s *Stack) Environment(name string, r Resources, params map[string]string) (map[string]string, error) {
	f, ok := s.Function(name)
	if !ok {
		return nil, fmt.Errorf("template has no function %s", name)
	}
	values := map[string]string{}
	for _, p := range s.Parameters {
		values[p.Name] = p.Default
	}
	for p := range params {
		if _, ok := values[p]; !ok {
			return nil, fmt.Errorf("template has no parameter %s", p)
		}
	}
	maps.Copy(values, params)
	values["AWS::URLSuffix"] = "amazonaws.com" // as in most regions
	maps.Copy(values, r.Tables)
	maps.Copy(values, r.Queues)
	env := make(map[string]string, len(f.Environment))
	for _, setting := range slices.Sorted(maps.Keys(f.Environment)) {
		v, ok := values[f.Environment[setting]]
		if !ok {
			return nil, fmt.Errorf("setting %s of %s refers to %s, which there is not", setting, name, f.Environment[setting])
		}
		env[setting] = v
	}
	return env, nil
}

// Parse reads a template.
func Parse(template []byte) (*Stack, error) {
	var doc struct {
		Globals struct {
			Function functionProps `yaml:"Function"`
		} `yaml:"Globals"`
		Parameters yaml.Node `yaml:"Parameters"`
		Resources  yaml.Node `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(template, &doc); err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	s := &Stack{}
	roles := map[string]bool{}
	allowed := map[string][]Permission{} // by role
	err := each(doc.Parameters, func(name string, n *yaml.Node) error {
		var p struct {
			Description    string   `yaml:"Description"`
			Default        string   `yaml:"Default"`
			AllowedValues  []string `yaml:"AllowedValues"`
			AllowedPattern string   `yaml:"AllowedPattern"`
		}
		if err := n.Decode(&p); err != nil {
			return err
		}
		s.Parameters = append(s.Parameters, Parameter{name, p.Description, p.Default, p.AllowedValues, p.AllowedPattern})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read template: parameter %w", err)
	}
	err = each(doc.Resources, func(id string, n *yaml.Node) error {
		var r struct {
			Type       string    `yaml:"Type"`
			Properties yaml.Node `yaml:"Properties"`
			Metadata   struct {
				BuildMethod string `yaml:"BuildMethod"`
			} `yaml:"Metadata"`
		}
		if err := n.Decode(&r); err != nil {
			return err
		}
		switch r.Type {
		case "AWS::DynamoDB::Table":
			return s.addTable(id, r.Properties)
		case "AWS::SQS::Queue":
			return s.addQueue(id, r.Properties)
		case "AWS::Serverless::Function":
			return s.addFunction(id, r.Properties, doc.Globals.Function, r.Metadata.BuildMethod)
		case "AWS::IAM::Role":
			roles[id] = true
			return role(id, r.Properties, allowed)
		case "AWS::IAM::Policy":
			return policy(r.Properties, allowed)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read template: resource %w", err)
	}
	for id := range allowed {
		if !roles[id] {
			return nil, fmt.Errorf("read template: a policy is for the role %s, which there is not", id)
		}
	}
	for i, f := range s.Functions {
		s.Functions[i].Allowed = allowed[f.role]
	}
	if len(s.Functions) == 0 {
		return nil, errors.New("read template: it has no functions")
	}
	return s, nil
}

// each calls do for the entries of a mapping, in their order. Errors name the
// entry.
func each(n yaml.Node, do func(key string, value *yaml.Node) error) error {
	if n.Kind != 0 && n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: not a mapping", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := do(n.Content[i].Value, n.Content[i+1]); err != nil {
			return fmt.Errorf("%s: %w", n.Content[i].Value, err)
		}
	}
	return nil
}

// reference is a property that refers to another part of the template: !Ref
// Name, or !GetAtt Name.Arn where the property wants an ARN, or !Sub
// ${Name.Arn}/index/x for a part of it.
type reference string

func (r *reference) UnmarshalYAML(n *yaml.Node) error {
	switch n.Tag {
	case "!Ref":
		*r = reference(n.Value)
		return nil
	case "!GetAtt":
		if id, ok := strings.CutSuffix(n.Value, ".Arn"); ok {
			*r = reference(id)
			return nil
		}
	case "!Sub":
		if rest, ok := strings.CutPrefix(n.Value, "${"); ok {
			if id, part, ok := strings.Cut(rest, ".Arn}"); ok && !strings.Contains(part, "$") {
				*r = reference(id + part)
				return nil
			}
		}
	}
	return fmt.Errorf("line %d: not a !Ref, a !GetAtt of an Arn, or a !Sub of one", n.Line)
}

type keySchema []struct {
	AttributeName string `yaml:"AttributeName"`
	KeyType       string `yaml:"KeyType"`
}

type indexProps struct {
	IndexName  string    `yaml:"IndexName"`
	KeySchema  keySchema `yaml:"KeySchema"`
	Projection struct {
		ProjectionType   string   `yaml:"ProjectionType"`
		NonKeyAttributes []string `yaml:"NonKeyAttributes"`
	} `yaml:"Projection"`
}

func (s *Stack) addTable(id string, n yaml.Node) error {
	var p struct {
		AttributeDefinitions []struct {
			AttributeName string `yaml:"AttributeName"`
			AttributeType string `yaml:"AttributeType"`
		} `yaml:"AttributeDefinitions"`
		KeySchema               keySchema    `yaml:"KeySchema"`
		LocalSecondaryIndexes   []indexProps `yaml:"LocalSecondaryIndexes"`
		GlobalSecondaryIndexes  []indexProps `yaml:"GlobalSecondaryIndexes"`
		TimeToLiveSpecification struct {
			AttributeName string `yaml:"AttributeName"`
			Enabled       bool   `yaml:"Enabled"`
		} `yaml:"TimeToLiveSpecification"`
	}
	if err := n.Decode(&p); err != nil {
		return err
	}
	kinds := map[string]string{}
	for _, a := range p.AttributeDefinitions {
		kinds[a.AttributeName] = a.AttributeType
	}
	keys := func(ks keySchema) (hash, sort Key, err error) {
		if len(ks) != 2 || ks[0].KeyType != "HASH" || ks[1].KeyType != "RANGE" {
			return hash, sort, errors.New("a key schema is not a hash and a range key")
		}
		hash = Key{ks[0].AttributeName, kinds[ks[0].AttributeName]}
		sort = Key{ks[1].AttributeName, kinds[ks[1].AttributeName]}
		if hash.Type == "" || sort.Type == "" {
			return hash, sort, fmt.Errorf("attribute %s or %s has no definition", hash.Name, sort.Name)
		}
		return hash, sort, nil
	}
	t := Table{ID: id}
	var err error
	if t.Hash, t.Sort, err = keys(p.KeySchema); err != nil {
		return err
	}
	for i, x := range slices.Concat(p.LocalSecondaryIndexes, p.GlobalSecondaryIndexes) {
		index := Index{
			Name: x.IndexName, Local: i < len(p.LocalSecondaryIndexes),
			Projection: x.Projection.ProjectionType, Include: x.Projection.NonKeyAttributes,
		}
		if index.Hash, index.Sort, err = keys(x.KeySchema); err != nil {
			return fmt.Errorf("index %s: %w", x.IndexName, err)
		}
		t.Indexes = append(t.Indexes, index)
	}
	if p.TimeToLiveSpecification.Enabled {
		t.TTL = p.TimeToLiveSpecification.AttributeName
	}
	s.Tables = append(s.Tables, t)
	return nil
}

func (s *Stack) addQueue(id string, n yaml.Node) error {
	var p struct {
		VisibilityTimeout      *int `yaml:"VisibilityTimeout"`
		MessageRetentionPeriod *int `yaml:"MessageRetentionPeriod"`
		MaximumMessageSize     *int `yaml:"MaximumMessageSize"`
		RedrivePolicy          *struct {
			DeadLetterTargetArn reference `yaml:"deadLetterTargetArn"`
			MaxReceiveCount     int       `yaml:"maxReceiveCount"`
		} `yaml:"RedrivePolicy"`
	}
	if err := n.Decode(&p); err != nil {
		return err
	}
	or := func(v *int, def int) int {
		if v == nil {
			return def
		}
		return *v
	}
	q := Queue{ // SQS's own defaults
		ID:              id,
		Visibility:      time.Duration(or(p.VisibilityTimeout, 30)) * time.Second,
		Retention:       time.Duration(or(p.MessageRetentionPeriod, 4*24*3600)) * time.Second,
		MaxMessageBytes: or(p.MaximumMessageSize, 1<<20),
	}
	if p.RedrivePolicy != nil {
		q.DeadLetter, q.MaxReceives = string(p.RedrivePolicy.DeadLetterTargetArn), p.RedrivePolicy.MaxReceiveCount
	}
	s.Queues = append(s.Queues, q)
	return nil
}

type policyDocument struct {
	Statement []yaml.Node `yaml:"Statement"`
}

// role adds what a role's own policies allow.
func role(id string, n yaml.Node, allowed map[string][]Permission) error {
	var p struct {
		Policies []struct {
			PolicyDocument policyDocument `yaml:"PolicyDocument"`
		} `yaml:"Policies"`
	}
	if err := n.Decode(&p); err != nil {
		return err
	}
	for _, policy := range p.Policies {
		all, err := policy.PolicyDocument.permissions()
		if err != nil {
			return err
		}
		allowed[id] = append(allowed[id], all...)
	}
	return nil
}

// policy adds what a policy allows that stands by itself, to each of its roles.
func policy(n yaml.Node, allowed map[string][]Permission) error {
	var p struct {
		Roles          []reference    `yaml:"Roles"`
		Users          []yaml.Node    `yaml:"Users"`
		Groups         []yaml.Node    `yaml:"Groups"`
		PolicyDocument policyDocument `yaml:"PolicyDocument"`
	}
	if err := n.Decode(&p); err != nil {
		return err
	}
	if len(p.Users)+len(p.Groups) > 0 {
		return errors.New("a policy is not for roles alone")
	}
	all, err := p.PolicyDocument.permissions()
	if err != nil {
		return err
	}
	for _, role := range p.Roles {
		allowed[string(role)] = append(allowed[string(role)], all...)
	}
	return nil
}

// leftOut are conditions of deployments that nothing here makes, on EC2's
// everything and on an alias of a key.
var leftOut = []string{"InVpc", "HasKmsAlias"}

// permissions reads a policy's statements, those under a condition (!If) too.
func (d policyDocument) permissions() ([]Permission, error) {
	var out []Permission
	for _, n := range d.Statement {
		condition := ""
		if n.Tag == "!If" {
			if len(n.Content) != 3 || n.Content[2].Value != "AWS::NoValue" {
				return nil, fmt.Errorf("line %d: not a statement or none", n.Line)
			}
			if condition = n.Content[0].Value; slices.Contains(leftOut, condition) {
				continue
			}
			n = *n.Content[1]
		}
		var s struct {
			Effect    string          `yaml:"Effect"`
			Action    list[string]    `yaml:"Action"`
			Resource  list[reference] `yaml:"Resource"`
			Condition yaml.Node       `yaml:"Condition"`
		}
		if err := n.Decode(&s); err != nil {
			return nil, err
		}
		if s.Effect != "Allow" {
			return nil, fmt.Errorf("line %d: a statement that does not allow", n.Line)
		}
		keys, err := leadingKeys(s.Condition)
		if err != nil {
			return nil, err
		}
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				out = append(out, Permission{action, string(resource), keys, condition})
			}
		}
	}
	return out, nil
}

// leadingKeys returns the partitions that a condition is about, the only one there is here.
func leadingKeys(condition yaml.Node) (keys []string, err error) {
	const equal, like = "ForAllValues:StringEquals", "ForAllValues:StringLike"
	err = each(condition, func(operator string, n *yaml.Node) error {
		var c map[string]list[string]
		if err := n.Decode(&c); err != nil {
			return err
		}
		if keys != nil || len(c) != 1 || len(c["dynamodb:LeadingKeys"]) == 0 || (operator != equal && operator != like) {
			return fmt.Errorf("line %d: a condition that is not one of %s or %s on dynamodb:LeadingKeys", n.Line, equal, like)
		}
		keys = c["dynamodb:LeadingKeys"]
		for _, key := range keys {
			stars := strings.Count(key, "*")
			if key == "" || strings.ContainsAny(key, "?$") || (stars > 0 && (operator == equal || stars > 1 || !strings.HasSuffix(key, "*"))) {
				return fmt.Errorf("line %d: %q is neither a partition nor a pattern with * at its end", n.Line, key)
			}
		}
		return nil
	})
	return keys, err
}

// list is a property that is one value or several.
type list[T any] []T

func (l *list[T]) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode((*[]T)(l))
	}
	var one T
	if err := n.Decode(&one); err != nil {
		return err
	}
	*l = list[T]{one}
	return nil
}

type functionProps struct {
	Runtime       string    `yaml:"Runtime"`
	Handler       string    `yaml:"Handler"`
	Architectures []string  `yaml:"Architectures"`
	MemorySize    int       `yaml:"MemorySize"`
	Timeout       int       `yaml:"Timeout"`
	Role          reference `yaml:"Role"`
	Environment   struct {
		Variables map[string]reference `yaml:"Variables"`
	} `yaml:"Environment"`
	Events yaml.Node `yaml:"Events"`
}

func (s *Stack) addFunction(id string, n yaml.Node, p functionProps, build string) error {
	// Over the globals, as SAM does it; a map among them is shared.
	p.Environment.Variables = maps.Clone(p.Environment.Variables)
	if err := n.Decode(&p); err != nil {
		return err
	}
	name, ok := strings.CutSuffix(id, "Function")
	if !ok || len(p.Architectures) != 1 || p.Timeout == 0 || p.MemorySize == 0 {
		return errors.New("a function is named ...Function and has an architecture, a timeout and a memory size")
	}
	f := Function{
		ID: id, Name: strings.ToLower(name), Runtime: p.Runtime, Handler: p.Handler, Architecture: p.Architectures[0],
		BuildMethod: build, Timeout: time.Duration(p.Timeout) * time.Second, MemoryMB: p.MemorySize,
		Environment: map[string]string{}, role: string(p.Role),
	}
	for setting, ref := range p.Environment.Variables {
		if ref != "AWS::NoValue" {
			f.Environment[setting] = string(ref)
		}
	}
	err := each(p.Events, func(_ string, n *yaml.Node) error { return f.addEvent(n) })
	if err != nil {
		return fmt.Errorf("event %w", err)
	}
	s.Functions = append(s.Functions, f)
	return nil
}

func (f *Function) addEvent(n *yaml.Node) error {
	var e struct {
		Type       string `yaml:"Type"`
		Properties struct {
			Method             string    `yaml:"Method"`
			Path               string    `yaml:"Path"`
			Queue              reference `yaml:"Queue"`
			BatchSize          int       `yaml:"BatchSize"`
			Window             int       `yaml:"MaximumBatchingWindowInSeconds"`
			FunctionResponse   []string  `yaml:"FunctionResponseTypes"`
			ScheduleExpression string    `yaml:"ScheduleExpression"`
			Input              string    `yaml:"Input"`
			ScalingConfig      struct {
				MaximumConcurrency int `yaml:"MaximumConcurrency"`
			} `yaml:"ScalingConfig"`
		} `yaml:"Properties"`
	}
	if err := n.Decode(&e); err != nil {
		return err
	}
	p := e.Properties
	switch e.Type {
	case "HttpApi":
		f.Routes = append(f.Routes, Route{p.Method, p.Path})
	case "SQS":
		f.Sources = append(f.Sources, Source{
			Queue: string(p.Queue), Batch: p.BatchSize, Window: time.Duration(p.Window) * time.Second,
			MaxConcurrency:  p.ScalingConfig.MaximumConcurrency,
			PartialFailures: slices.Contains(p.FunctionResponse, "ReportBatchItemFailures"),
		})
	case "ScheduleV2":
		every, err := rate(p.ScheduleExpression)
		if err != nil {
			return err
		}
		f.Schedules = append(f.Schedules, Schedule{every, p.Input})
	default:
		return fmt.Errorf("unknown type %q", e.Type)
	}
	return nil
}

// rate reads EventBridge Scheduler's rate(1 minute), rate(5 minutes).
func rate(expression string) (time.Duration, error) {
	var n int
	var unit string
	if _, err := fmt.Sscanf(strings.TrimSuffix(expression, ")"), "rate(%d %s", &n, &unit); err != nil || n < 1 {
		return 0, fmt.Errorf("schedule %q is not a rate", expression)
	}
	if (n == 1) == strings.HasSuffix(unit, "s") {
		return 0, fmt.Errorf("schedule %q: the service wants %d without, and more with, an s", expression, 1)
	}
	units := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}
	d, ok := units[strings.TrimSuffix(unit, "s")]
	if !ok {
		return 0, fmt.Errorf("schedule %q has a unit that is not minute, hour or day", expression)
	}
	return time.Duration(n) * d, nil
}
