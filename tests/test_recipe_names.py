from passerby.recipe import load_recipe


def test_a_data_set_that_is_called_by_its_folder_takes_no_name_of_another(site):
    name = site.parent.name
    recipe = load_recipe("small", [f"root={site}", f"datasets={{{name}: {{kind: market1501, root: {site}}}}}"])
    assert recipe.open_dataset("auto").name == f"{name}-2"
    assert recipe.open_dataset(name).name == name
