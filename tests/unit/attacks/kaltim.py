from tests.unit.attacks.forging import Table
ATTACKS: Table = {}
