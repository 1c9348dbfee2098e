-- Three workflows of a shop.
--
--   ecommerce/order_processing:  validate_cart > check_inventory > calculate_pricing > create_order
--   inventory/stock_management:  monitor_stock_levels > identify_low_stock > propose_reorders
--   customer/user_onboarding:    validate_registration_data > check_duplicate_user > create_account
--                                > set_preferences, queue_welcome_mail

\set ON_ERROR_STOP on
\set QUIET on

SELECT tasker.define_task($definition${
  "namespace": "ecommerce",
  "name": "order_processing",
  "version": "1.0.0",
  "description": "Turn a cart into an order",
  "context_schema": {
    "type": "object",
    "properties": {"cart_id": {"type": "integer", "minimum": 1}, "user_id": {"type": "integer", "minimum": 1}},
    "required": ["cart_id"],
    "additionalProperties": false
  },
  "steps": [
    {"name": "validate_cart", "max_attempts": 3,
     "handler": {"type": "sql", "function": "shop.validate_cart"}},
    {"name": "check_inventory", "depends_on": ["validate_cart"], "max_attempts": 3,
     "handler": {"type": "sql", "function": "shop.check_inventory"}},
    {"name": "calculate_pricing", "depends_on": ["validate_cart", "check_inventory"], "max_attempts": 3,
     "handler": {"type": "sql", "function": "shop.calculate_pricing"}},
    {"name": "create_order", "depends_on": ["validate_cart", "calculate_pricing"], "max_attempts": 2,
     "handler": {"type": "sql", "function": "shop.create_order"}}
  ]
}$definition$) AS named_task_id;

SELECT tasker.define_task($definition${
  "namespace": "inventory",
  "name": "stock_management",
  "version": "1.0.0",
  "description": "Propose what to reorder",
  "context_schema": {
    "type": "object",
    "properties": {"threshold": {"type": "integer", "minimum": 1}, "category": {"type": "string", "minLength": 1}},
    "required": ["threshold"],
    "additionalProperties": false
  },
  "steps": [
    {"name": "monitor_stock_levels",
     "handler": {"type": "sql", "function": "shop.monitor_stock_levels"}},
    {"name": "identify_low_stock", "depends_on": ["monitor_stock_levels"],
     "handler": {"type": "sql", "function": "shop.identify_low_stock"}},
    {"name": "propose_reorders", "depends_on": ["identify_low_stock"],
     "handler": {"type": "sql", "function": "shop.propose_reorders"}}
  ]
}$definition$) AS named_task_id;

SELECT tasker.define_task($definition${
  "namespace": "customer",
  "name": "user_onboarding",
  "version": "1.0.0",
  "description": "From a registration form to a welcome",
  "context_schema": {
    "type": "object",
    "properties": {
      "email": {"type": "string", "minLength": 3},
      "username": {"type": "string", "minLength": 1},
      "language": {"type": "string", "enum": ["en", "de", "fr", "ja"]},
      "newsletter": {"type": "boolean"}
    },
    "required": ["email", "username"],
    "additionalProperties": false
  },
  "steps": [
    {"name": "validate_registration_data",
     "handler": {"type": "sql", "function": "shop.validate_registration_data"}},
    {"name": "check_duplicate_user", "depends_on": ["validate_registration_data"],
     "handler": {"type": "sql", "function": "shop.check_duplicate_user"}},
    {"name": "create_account", "depends_on": ["validate_registration_data", "check_duplicate_user"],
     "handler": {"type": "sql", "function": "shop.create_account"}},
    {"name": "set_preferences", "depends_on": ["create_account"],
     "handler": {"type": "sql", "function": "shop.set_preferences"}},
    {"name": "queue_welcome_mail", "depends_on": ["create_account"],
     "handler": {"type": "sql", "function": "shop.queue_welcome_mail"}}
  ]
}$definition$) AS named_task_id;
