package kafkatest

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// LiftDenial removes what [Cluster.Deny] added and returns once no running
// broker has it any more.
func (c *Cluster) LiftDenial(ctx context.Context, user string, resource sarama.Resource, operations ...sarama.AclOperation) error {
	for _, operation := range operations {
		filter := denial(user, resource, operation)
		err := c.withAdmin(func(admin sarama.ClusterAdmin) error {
			deleted, err := admin.DeleteACL(filter, false)
			if err == nil && len(deleted) == 0 {
				err = errors.New("there is none")
			}
			return err
		})
		if err == nil {
			err = c.onEachBroker(ctx, func(broker *sarama.Broker) error { return hasNoACL(broker, filter) })
		}
		if err != nil {
			return fmt.Errorf("lift denial of user %q: %w", user, err)
		}
	}
	return nil
}

func denial(user string, resource sarama.Resource, operation sarama.AclOperation) sarama.AclFilter {
	principal, host := "User:"+user, "*"
	return sarama.AclFilter{
		Version: 1, ResourceType: resource.ResourceType, ResourceName: &resource.ResourceName,
		ResourcePatternTypeFilter: resource.ResourcePatternType, Principal: &principal, Host: &host,
		Operation: operation, PermissionType: sarama.AclPermissionDeny,
	}
}

func hasNoACL(broker *sarama.Broker, filter sarama.AclFilter) error {
	answer, err := broker.DescribeAcls(&sarama.DescribeAclsRequest{Version: 1, AclFilter: filter})
	if err != nil {
		return fmt.Errorf("describe ACLs: %w", err)
	}
	if answer.Err != sarama.ErrNoError {
		return fmt.Errorf("describe ACLs: %w", answer.Err)
	}
	if len(answer.ResourceAcls) > 0 {
		return fmt.Errorf("ACL of %s still known to broker %d", *filter.Principal, broker.ID())
	}
	return nil
}
