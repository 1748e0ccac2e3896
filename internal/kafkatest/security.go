package kafkatest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/IBM/sarama"
)

// Admin is the user who is allowed everything.
const Admin = "admin"

const adminPassword = "admin-secret"

// sasl reports whether clients must authenticate.
func (o Options) sasl() bool { return o.Authorizer || len(o.Users) > 0 }

func (o Options) password(user string) string {
	if password, ok := o.Users[user]; ok {
		return password
	}
	if user == Admin {
		return adminPassword
	}
	return ""
}

// securityProperties returns the settings for authentication and ACLs.
func (o Options) securityProperties() map[string]string {
	properties := map[string]string{}
	if o.sasl() {
		var jaas strings.Builder
		jaas.WriteString(`org.apache.kafka.common.security.plain.PlainLoginModule required`)
		for _, user := range slices.Sorted(maps.Keys(o.usersWithAdmin())) {
			fmt.Fprintf(&jaas, ` user_%s="%s"`, user, strings.ReplaceAll(o.password(user), `"`, `\"`))
		}
		properties["listener.security.protocol.map"] = "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
		properties["sasl.enabled.mechanisms"] = "PLAIN"
		properties["listener.name.client.plain.sasl.jaas.config"] = jaas.String() + ";"
	}
	if o.Authorizer {
		properties["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		// Brokers are anonymous to each other, on listeners that no test uses.
		properties["super.users"] = "User:" + Admin + ";User:ANONYMOUS"
	}
	return properties
}

func (o Options) usersWithAdmin() map[string]string {
	users := map[string]string{Admin: adminPassword}
	maps.Copy(users, o.Users)
	return users
}

// Config returns a client configuration for a user of the cluster: one of
// [Options].Users or [Admin]. Without authentication the user does not matter.
func (c *Cluster) Config(user string) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.ClientID = "kafkatest"
	if c.options.sasl() {
		config.Net.SASL.Enable = true
		config.Net.SASL.Mechanism = sarama.SASLTypePlaintext
		config.Net.SASL.User = user
		config.Net.SASL.Password = c.options.password(user)
	}
	return config
}

// Allow adds an ACL that allows a user the operations on a resource, for
// example
//
//	cluster.Allow(ctx, "alice", sarama.Resource{
//		ResourceType: sarama.AclResourceTopic, ResourceName: topic,
//		ResourcePatternType: sarama.AclPatternLiteral,
//	}, sarama.AclOperationWrite, sarama.AclOperationDescribe)
//
// and returns once every running broker has it.
func (c *Cluster) Allow(ctx context.Context, user string, resource sarama.Resource, operations ...sarama.AclOperation) error {
	return c.createACL(ctx, user, resource, sarama.AclPermissionAllow, operations)
}

// Deny adds an ACL that denies a user the operations on a resource, whatever
// else is allowed, and returns once every running broker has it.
func (c *Cluster) Deny(ctx context.Context, user string, resource sarama.Resource, operations ...sarama.AclOperation) error {
	return c.createACL(ctx, user, resource, sarama.AclPermissionDeny, operations)
}

// AllowAll allows a user every operation on every resource.
func (c *Cluster) AllowAll(ctx context.Context, user string) error {
	for resourceType, name := range map[sarama.AclResourceType]string{
		sarama.AclResourceTopic:           "*",
		sarama.AclResourceGroup:           "*",
		sarama.AclResourceTransactionalID: "*",
		sarama.AclResourceCluster:         "kafka-cluster",
	} {
		resource := sarama.Resource{ResourceType: resourceType, ResourceName: name, ResourcePatternType: sarama.AclPatternLiteral}
		if err := c.Allow(ctx, user, resource, sarama.AclOperationAll); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) createACL(
	ctx context.Context, user string, resource sarama.Resource, permission sarama.AclPermissionType,
	operations []sarama.AclOperation,
) error {
	acls := &sarama.ResourceAcls{Resource: resource}
	for _, operation := range operations {
		acls.Acls = append(acls.Acls, &sarama.Acl{Principal: "User:" + user, Host: "*", Operation: operation, PermissionType: permission})
	}
	err := c.withAdmin(func(admin sarama.ClusterAdmin) error { return admin.CreateACLs([]*sarama.ResourceAcls{acls}) })
	if err != nil {
		return fmt.Errorf("create ACLs of user %q: %w", user, err)
	}
	return c.onEachBroker(ctx, func(broker *sarama.Broker) error { return hasACLs(broker, acls) })
}

// hasACLs checks the ACLs at a broker; brokers learn of them one by one.
func hasACLs(broker *sarama.Broker, acls *sarama.ResourceAcls) error {
	for _, acl := range acls.Acls {
		response, err := broker.DescribeAcls(&sarama.DescribeAclsRequest{Version: 1, AclFilter: sarama.AclFilter{
			Version: 1, ResourceType: acls.ResourceType, ResourceName: &acls.ResourceName,
			ResourcePatternTypeFilter: acls.ResourcePatternType, Principal: &acl.Principal,
			Host: &acl.Host, Operation: acl.Operation, PermissionType: acl.PermissionType,
		}})
		if err != nil {
			return fmt.Errorf("describe ACLs: %w", err)
		}
		if response.Err != sarama.ErrNoError {
			return fmt.Errorf("describe ACLs: %w", response.Err)
		}
		if len(response.ResourceAcls) == 0 {
			return fmt.Errorf("ACL of %s not known to broker %d", acl.Principal, broker.ID())
		}
	}
	return nil
}
